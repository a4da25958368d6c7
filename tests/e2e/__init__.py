"""The whole machine from outside: real processes, real sockets, Logto's own code."""
