const $ = (id) => document.getElementById(id);
const all = (selector) => [...document.querySelectorAll(selector)];
const names = new Intl.DisplayNames(["en"], { type: "language" });
const TILE_WIDTH = 375, POLL_MS = 500, FRAME_HEIGHT = 700;
let mail = null, asked = 0, timer = 0, edited = false;
let shows = "mail", tab = "html", looks = ["light", "dark"], widths = ["390"], pictures = true;

function languageName(tag) {
  try { return `${names.of(tag)} · ${tag}`; } catch { return tag; }
}

// The address holds what is shown, so that it can be reloaded and sent to others.
function readAddress() {
  const query = new URLSearchParams(location.search);
  const get = (name, otherwise) => query.get(name) ?? otherwise;
  fill($("kind"), Object.keys(state.kinds), get("kind", chosen.kind), (name) => name);
  fillLanguages(get("language", chosen.language));
  $("sample").value = get("sample", chosen.sample);
  if ($("sample").selectedIndex < 0) $("sample").value = "";
  shows = get("shows", "mail");
  tab = get("tab", "html");
  looks = get("looks", "light,dark").split(",");
  widths = get("widths", "390").split(",");
  pictures = get("pictures", "on") === "on";
  edited = query.has("payload");
  if (edited) $("payload").value = query.get("payload");
}

function writeAddress() {
  const query = new URLSearchParams({ kind: $("kind").value, language: $("language").value });
  const usual = { sample: "", shows: "mail", tab: "html", looks: "light,dark", widths: "390", pictures: "on" };
  const now = { sample: $("sample").value, shows, tab, looks: looks.join(), widths: widths.join(), pictures: pictures ? "on" : "off" };
  for (const name in usual) if (now[name] !== usual[name]) query.set(name, now[name]);
  if (edited && $("payload").value.length < 4000) query.set("payload", $("payload").value);
  history.replaceState(null, "", `?${query}`);
}

function fill(select, values, wanted, label) {
  select.replaceChildren(...values.map((value) => new Option(label(value), value, false, value === wanted)));
}

function fillLanguages(wanted) {
  const tags = state.kinds[$("kind").value] || [];
  fill($("language"), tags, tags.includes(wanted) ? wanted : tags.includes(chosen.language) ? chosen.language : tags[0], languageName);
}

function fields(payload) {
  return { kind: $("kind").value, language: $("language").value, sample: $("sample").value, payload };
}

async function post(path, body) {
  const headers = { "content-type": "application/json" };
  try {
    const response = await fetch(base + path, { method: "POST", headers, body: JSON.stringify(body) });
    const isJson = response.headers.get("content-type") === "application/json";
    return isJson ? await response.json() : { error: await response.text() };
  } catch {
    return { error: "The preview has ended: start it again." };
  }
}

async function render() {
  writeAddress();
  press();
  $("one").hidden = shows !== "mail";
  $("gallery").hidden = shows === "mail";
  for (const part of all(".changes, .sending")) part.hidden = shows !== "mail";
  $("error").hidden = true;
  if (shows !== "mail") { showGallery(); return; }
  const number = ++asked;
  const answer = await post("/view", fields(edited ? $("payload").value : null));
  if (number !== asked) return;
  if (!edited && answer.payload) $("payload").value = answer.payload;
  mail = answer.error ? null : answer;
  $("error").hidden = !answer.error;
  $("error").textContent = answer.error || "";
  $("one").classList.toggle("stale", !mail);
  showFindings();
  if (mail) show();
}

// A mail in plain text has no HTML to show.
function shownTab() {
  return mail && mail.source === "" && ["html", "source"].includes(tab) ? "text" : tab;
}

function show() {
  const hasHtml = mail.source !== "", shown = shownTab();
  press();
  $("initial").textContent = ([...mail.from][0] || "").toUpperCase();
  $("from").textContent = mail.from;
  $("from").title = mail.address;
  $("subject").textContent = mail.subject;
  $("preheader").textContent = mail.preheader || mail.text.trim().slice(0, 120);
  $("size").textContent = `${hasHtml ? `HTML ${kilo(mail.size.html)}` : "plain text"}, message ${kilo(mail.size.message)}`;
  $("stage").hidden = shown !== "html";
  $("written").hidden = shown === "html";
  $("pre").textContent = mail[shown] || "";
  $("written").dir = shown === "text" ? "auto" : "ltr";
  if (shown === "html") $("stage").replaceChildren(...widths.flatMap((width) => looks.map((look) => makeFigure(width, look))));
}

function makeFigure(width, look) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption"), card = document.createElement("div");
  const frame = document.createElement("iframe");
  figure.className = look;
  card.className = "card";
  caption.textContent = `${width === "390" ? "Phone" : "Desktop"}, ${look}`;
  frame.title = caption.textContent;
  // Without allow-scripts nothing of the mail runs; same-origin lets this page read the height.
  frame.sandbox = "allow-same-origin";
  frame.width = width;
  frame.onload = () => {
    frame.style.height = "0";  // a document is at least as high as its frame
    frame.style.height = `${frame.contentDocument?.documentElement.scrollHeight || FRAME_HEIGHT}px`;
  };
  frame.srcdoc = mail.looks[look][pictures ? 0 : 1];
  card.append(frame);
  figure.append(caption, card);
  return figure;
}

function showGallery() {
  const kind = $("kind").value, language = $("language").value, look = looks[0];
  const tiles = shows === "languages"
    ? state.kinds[kind].map((tag) => [kind, tag, languageName(tag)])
    : Object.keys(state.kinds).filter((name) => state.kinds[name].includes(language)).map((name) => [name, language, name]);
  $("gallery").replaceChildren(...tiles.map(([name, tag, label]) => makeTile(name, tag, label, look)));
  fitTiles();
  $("findings").hidden = true;
}

function makeTile(kind, language, label, look) {
  const tile = document.createElement("button"), picture = document.createElement("span"), name = document.createElement("span");
  const frame = document.createElement("iframe");
  const query = new URLSearchParams({ kind, language, sample: $("sample").value, look, version: state.version });
  tile.className = `tile ${look}`;
  picture.className = "picture";
  name.className = "name";
  name.textContent = name.title = label;
  frame.title = label;
  frame.tabIndex = -1;
  frame.loading = "lazy";
  frame.sandbox = "";
  frame.src = `${base}/mail?${query}`;
  picture.append(frame);
  tile.append(picture, name);
  tile.onclick = () => { $("kind").value = kind; fillLanguages(language); edited = false; shows = "mail"; render(); };
  return tile;
}

function fitTiles() {
  for (const picture of all(".picture")) {
    const scale = picture.clientWidth / TILE_WIDTH, frame = picture.firstChild;
    frame.style.transform = `scale(${scale})`;
    frame.style.height = `${picture.clientHeight / scale}px`;
  }
}

function showFindings() {
  $("findings").hidden = !mail;
  if (!mail) { $("findings").replaceChildren(); $("size").textContent = ""; return; }
  const list = document.createElement("ul"), said = document.createElement("b");
  for (const one of mail.findings) {
    const item = document.createElement("li");
    item.className = one.is_warning ? "doubtful" : "wrong";
    item.textContent = `${one.check}: ${one.problem} (${one.place}). To do: ${one.remedy}`;
    list.append(item);
  }
  said.className = mail.findings.length ? "" : "good";
  said.textContent = mail.findings.length ? "The checks say" : "The checks find nothing wrong.";
  $("findings").replaceChildren(said, ...(mail.findings.length ? [list] : []));
}

const kilo = (octets) => `${(octets / 1000).toFixed(1)} kB`;

function press() {
  for (const button of all("[data-shows]")) button.ariaSelected = String(button.dataset.shows === shows);
  for (const button of all("[data-tab]")) button.ariaSelected = String(button.dataset.tab === shownTab());
  for (const button of all("[data-look]")) button.ariaPressed = String((shows === "mail" ? looks : looks.slice(0, 1)).includes(button.dataset.look));
  for (const button of all("[data-width]")) button.ariaPressed = String(widths.includes(button.dataset.width));
  $("pictures").ariaPressed = String(pictures);
  for (const group of all(".single")) group.hidden = shows !== "mail";
}

// Several may be pressed, and at least one is.
function toggle(list, value) {
  const toggled = list.includes(value) ? list.filter((one) => one !== value) : [...list, value];
  return toggled.length ? toggled : list;
}

async function poll() {
  try {
    const response = await fetch(`${base}/state`);
    const newest = response.ok ? await response.json() : state;
    if (newest.version !== state.version) {
      state = newest;
      const language = $("language").value;
      fill($("kind"), Object.keys(state.kinds), $("kind").value, (name) => name);
      fillLanguages(language);
      await render();
    }
  } catch { /* the preview has ended, or begins again */ }
  setTimeout(poll, POLL_MS);
}

$("kind").onchange = () => { fillLanguages($("language").value); edited = false; render(); };
$("language").onchange = $("sample").onchange = () => { edited = false; render(); };
$("payload").oninput = () => { clearTimeout(timer); edited = true; timer = setTimeout(render, 200); };
for (const button of all("[data-shows]")) button.onclick = () => { shows = button.dataset.shows; render(); };
for (const button of all("[data-tab]")) button.onclick = () => { tab = button.dataset.tab; redraw(); };
for (const button of all("[data-width]")) button.onclick = () => { widths = toggle(widths, button.dataset.width); redraw(); };
for (const button of all("[data-look]"))
  button.onclick = () => { looks = shows === "mail" ? toggle(looks, button.dataset.look) : [button.dataset.look]; redraw(); };
$("pictures").onclick = () => { pictures = !pictures; redraw(); };
addEventListener("resize", fitTiles);

function redraw() {
  writeAddress();
  press();
  if (shows !== "mail") showGallery();
  else if (mail) show();
}

$("download").onclick = () => {
  if (!mail) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([mail.raw], { type: "message/rfc822" }));
  link.download = `${$("kind").value}.${$("language").value}.eml`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};
if ($("sending")) $("sending").onsubmit = async (event) => {
  event.preventDefault();
  $("sent").textContent = "Sending…";
  const request = { ...fields(edited ? $("payload").value : null), to: $("to").value, provider: $("provider").value };
  const answer = await post("/send", request);
  $("sent").className = answer.error ? "wrong" : "good";
  $("sent").textContent = answer.error || answer.told;
};

readAddress();
render();
poll();
