// The list of all datasets. Asks now and then whether the data folder changed; redraws only then. The search filters
// here, without the server. A click, Enter or Space selects.
const POLL_MS = 2000;
const body = element.querySelector("tbody");
const table = element.querySelector("table");
const empty = element.querySelector(".datasets-empty");
const search = element.querySelector("input");
const fault = element.querySelector(".card");
let stamp = "", rows = [], busy = false;

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

function line(row) {
  const tr = document.createElement("tr");
  tr.tabIndex = 0;
  tr.dataset.name = row.name;
  const name = cell(row.name, "name");
  if (row.note) {
    const note = document.createElement("small");
    note.textContent = row.note;
    note.title = row.note;
    name.append(note);
    tr.className = "unusable";
  }
  const count = row.rows === null ? (row.note ? "" : "…") : row.rows.toLocaleString();
  tr.append(name, cell(row.shape || "—"), cell(count, "number"), cell(size(row.bytes), "number narrow-hidden"));
  return tr;
}

function draw() {
  const focused = document.activeElement?.dataset?.name;
  const wanted = search.value.trim().toLowerCase();
  const found = rows.filter((row) => `${row.name} ${row.shape} ${row.file_name}`.toLowerCase().includes(wanted));
  body.replaceChildren(...found.map(line));
  mark();
  if (focused !== undefined) [...body.children].find((tr) => tr.dataset.name === focused)?.focus();
  search.hidden = rows.length < 2;
  table.hidden = found.length === 0;
  empty.hidden = found.length > 0 || !fault.hidden;
  empty.textContent = rows.length ? `No dataset is called like “${search.value}”.` : empty.dataset.none;
}

function mark() {
  for (const tr of body.children) tr.setAttribute("aria-selected", tr.dataset.name === props.value);
}

function select(name) {
  if (name === undefined) return;
  props.value = name;
  mark();
  trigger("select", { name });
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
  } catch (error) {
    console.warn("datasets:", error);
  } finally {
    busy = false;
  }
}

body.addEventListener("click", (event) => select(event.target.closest("tr")?.dataset.name));
body.addEventListener("keydown", (event) => {
  const tr = event.target.closest("tr");
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); select(tr?.dataset.name); }
  if (event.key === "ArrowDown") { event.preventDefault(); tr?.nextElementSibling?.focus(); }
  if (event.key === "ArrowUp") { event.preventDefault(); tr?.previousElementSibling?.focus(); }
});
search.addEventListener("input", draw);
watch("value", () => { mark(); stamp = ""; tick(); }); // a name that was just registered is not listed yet
tick();
const timer = setInterval(() => element.isConnected ? tick() : clearInterval(timer), POLL_MS);
