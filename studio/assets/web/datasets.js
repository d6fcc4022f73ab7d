// The list of all datasets. Asks now and then whether the data folder changed; redraws only then. The search filters
// and the headings sort here, without the server. A click, Enter or Space selects; the arrows go up and down.
const POLL_MS = 2000;
const inChinese = navigator.language.toLowerCase().startsWith("zh");
const say = (english, chinese) => (inChinese ? chinese : english);
const table = element.querySelector("table");
const body = table.querySelector("tbody");
const hubs = element.querySelector(".on-hubs");
const empty = element.querySelector(".datasets-empty");
const search = element.querySelector("input");
const fault = element.querySelector(".card");
const STATES = {
  unchecked: ["none", say("unchecked", "未检查")],
  ok: ["completed", say("ok", "正常")],
  warnings: ["queued", say("warnings", "警告")],
  fatal: ["failed", say("fatal", "致命")],
  unusable: ["failed", say("unusable", "不可用")],
};
const GRAVITY = ["unusable", "fatal", "warnings", "unchecked", "ok"];
let stamp = "", rows = [], busy = false, sortedBy = "", rising = true, sought = true;

const far = (row) => row.state === "remote";

function cell(text, className) {
  const td = document.createElement("td");
  td.textContent = text;
  if (className) td.className = className;
  return td;
}

function size(bytes) {
  if (!bytes) return "";
  const power = Math.min(3, Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1000 ** power).toLocaleString([], { maximumSignificantDigits: 3 })} ${["B", "kB", "MB", "GB"][power]}`;
}

function badge(row) {
  const td = document.createElement("td");
  const [tone, text] = STATES[row.state];
  const span = document.createElement("span");
  span.className = `badge ${tone}`;
  const counted = row.warnings === 1 ? say("1 warning", "1 个警告") : `${row.warnings} ${text}`;
  span.textContent = row.state === "warnings" ? counted : text;
  td.append(span);
  return td;
}

function line(row) {
  const tr = document.createElement("tr");
  tr.tabIndex = 0;
  tr.dataset.name = row.name;
  const name = cell(row.name, "name");
  const told = far(row) ? row.hub_id : row.note;
  if (told) {
    const note = document.createElement("small");
    note.textContent = told;
    note.title = told;
    name.append(note);
    tr.className = far(row) ? "far" : "unusable";
  }
  if (far(row)) {
    tr.append(name);
    return tr;
  }
  const count = row.rows === null ? (row.note ? "" : "…") : row.rows.toLocaleString();
  tr.append(name, cell(row.shape || "—", "narrow-hidden"), cell(count, "number"), cell(size(row.bytes), "number narrow-hidden"), badge(row));
  return tr;
}

function order(one, other) {
  const [a, b] = [one, other].map((row) => sortedBy === "state" ? GRAVITY.indexOf(row.state) : row[sortedBy] ?? -1);
  const result = typeof a === "number" ? a - b : a.localeCompare(b, [], { numeric: true });
  return rising ? result : -result;
}

function draw() {
  const focused = document.activeElement?.dataset?.name;
  const wanted = search.value.trim().toLowerCase();
  const found = rows.filter((row) => `${row.name} ${row.shape} ${row.file_name} ${row.hub_id}`.toLowerCase().includes(wanted));
  if (sortedBy) found.sort(order);
  const here = found.filter((row) => !far(row)), there = found.filter(far);
  body.replaceChildren(...here.map(line));
  hubs.querySelector("tbody").replaceChildren(...there.map(line));
  hubs.hidden = there.length === 0;
  hubs.querySelector("summary").textContent = say(`On a hub, to be downloaded: ${there.length}`, `在模型库中，可下载：${there.length}`);
  mark();
  if (focused !== undefined) lines().find((tr) => tr.dataset.name === focused)?.focus();
  search.hidden = rows.length < 2;
  table.hidden = here.length === 0;
  empty.hidden = found.length > 0 || !fault.hidden;
  empty.textContent = rows.length ? `No dataset is called like “${search.value}”.` : empty.dataset.none;
}

const lines = () => [...element.querySelectorAll("tr[data-name]")].filter((tr) => tr.offsetParent);

function mark() {
  for (const tr of element.querySelectorAll("tr[data-name]")) tr.setAttribute("aria-selected", tr.dataset.name === props.value);
}

function select(name) {
  if (name === undefined) return;
  props.value = name;
  mark();
  trigger("select", { name });
}

function sort(th) {
  rising = sortedBy === th.dataset.key ? !rising : ["name", "shape", "state"].includes(th.dataset.key);
  sortedBy = th.dataset.key;
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", rising ? "ascending" : "descending");
  draw();
}

async function tick() {
  if (busy || document.hidden || !element.offsetParent) return;
  busy = true;
  try {
    const answer = await server.datasets(stamp);
    if (answer) {
      ({ stamp, rows } = answer);
      fault.hidden = !answer.fault;
      fault.textContent = answer.fault;
      draw();
    }
    reveal();
  } catch (error) {
    console.warn("datasets:", error);
  } finally {
    busy = false;
  }
}

element.addEventListener("click", (event) => {
  const th = event.target.closest("th");
  if (th) sort(th);
  else select(event.target.closest("tr[data-name]")?.dataset.name);
});
element.addEventListener("keydown", (event) => {
  const tr = event.target.closest("tr[data-name]"), th = event.target.closest("th");
  if (event.key === "Enter" || event.key === " ") {
    if (tr || th) event.preventDefault();
    if (th) sort(th);
    else select(tr?.dataset.name);
  }
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && (tr || event.target === search)) {
    event.preventDefault();
    const all = lines();
    (all[all.indexOf(tr) + step] ?? search).focus();
  }
});
for (const th of table.querySelectorAll("th")) th.tabIndex = 0;
search.addEventListener("input", draw);
// The list scrolls by itself: the chosen set is brought into its view, and the page stays where it is.
function reveal() {
  const tr = element.querySelector('tr[aria-selected="true"]');
  if (!sought || !tr?.offsetParent) return;
  const box = element.closest("#datasets-table"), [line, view] = [tr, box].map((each) => each.getBoundingClientRect());
  if (line.bottom > view.bottom || line.top < view.top) box.scrollTop += line.top - view.top - view.height / 2;
  sought = false;
}

watch("value", () => {
  sought = true;
  mark();
  stamp = ""; // a name that was just registered is not listed yet
  tick();
});
tick();
const timer = setInterval(() => element.isConnected ? tick() : clearInterval(timer), POLL_MS);
