"""The loop: claim, write, send by the route's providers in order, settle."""
