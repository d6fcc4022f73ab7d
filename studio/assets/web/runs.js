// The table of all runs. Polls a fingerprint; redraws only when something changed. A click, Enter or Space selects.
const POLL_MS = 1000;
const CALM_TICKS = 3; // while nothing runs, look only every third time
const body = element.querySelector("tbody");
const empty = element.querySelector(".runs-empty");
const table = element.querySelector("table");
let fingerprint = "", rows = [], busy = false, ticks = 0;

function cell(text, className) {
  const td = document.createElement("td");
  td.textContent = text;
  if (className) td.className = className;
  return td;
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

function progress(row) {
  const td = document.createElement("td");
  td.className = "wide";
  if (row.progress !== null && row.state !== "completed") {
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.setAttribute("role", "progressbar");
    bar.setAttribute("aria-valuenow", Math.round(row.progress * 100));
    bar.innerHTML = `<i style="width:${(row.progress * 100).toFixed(1)}%"></i>`;
    td.appendChild(bar);
  }
  const message = document.createElement("small");
  message.textContent = row.message;
  message.title = row.message;
  td.appendChild(message);
  return td;
}

function badge(state) {
  const td = document.createElement("td");
  const span = document.createElement("span");
  span.className = `badge ${state}`;
  span.textContent = state;
  td.appendChild(span);
  return td;
}

function line(row) {
  const tr = document.createElement("tr");
  tr.tabIndex = 0;
  tr.dataset.run = row.id;
  tr.setAttribute("aria-selected", row.id === props.value);
  const name = cell(row.name, "name");
  name.title = row.id;
  const when = new Date(row.created * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
  tr.append(badge(row.state), name, cell(row.kind, "narrow-hidden"), cell(row.model, "narrow-hidden clip"),
    cell(row.detail, "narrow-hidden clip"), progress(row), cell(duration(row.eta_s), "narrow-hidden"),
    cell(when, "narrow-hidden"));
  return tr;
}

function draw() {
  const focused = document.activeElement?.dataset?.run;
  body.replaceChildren(...rows.map(line));
  if (focused) body.querySelector(`[data-run="${focused}"]`)?.focus();
  empty.hidden = rows.length > 0;
  table.hidden = rows.length === 0;
}

function select(id) {
  if (!id) return;
  props.value = id;
  mark();
  trigger("select", { run: id });
}

// the address follows the chosen run, so that a reload or a bookmark comes back to it
function mark() {
  window.seedbedRun = props.value;
  if (props.value && location.hash.startsWith("#runs")) history.replaceState(null, "", `#runs/${props.value}`);
  for (const tr of body.children) tr.setAttribute("aria-selected", tr.dataset.run === props.value);
}

async function tick() {
  if (busy || document.hidden || !element.offsetParent) return;
  const calm = !rows.some((row) => ["queued", "running", "stopping"].includes(row.state));
  if (calm && ticks++ % CALM_TICKS) return;
  busy = true;
  try {
    const answer = await server.rows(fingerprint);
    if (answer) {
      fingerprint = answer.fingerprint;
      rows = answer.rows;
      draw();
      if (!props.value) select(rows[0]?.id); // the newest, rather than an empty page
    }
  } catch (error) {
    console.warn("runs:", error);
  } finally {
    busy = false;
  }
}

body.addEventListener("click", (event) => select(event.target.closest("tr")?.dataset.run));
body.addEventListener("keydown", (event) => {
  const tr = event.target.closest("tr");
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); select(tr?.dataset.run); }
  if (event.key === "ArrowDown") { event.preventDefault(); tr?.nextElementSibling?.focus(); }
  if (event.key === "ArrowUp") { event.preventDefault(); tr?.previousElementSibling?.focus(); }
});
watch("value", mark);
tick();
const timer = setInterval(() => element.isConnected ? tick() : clearInterval(timer), POLL_MS);
