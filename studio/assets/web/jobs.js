// Work on datasets, a line each: a bar while it runs, then what came of it.
const AT_ONCE_MS = 15000; // what is ready within this time is opened without being asked for
let askedFor = null, running = new Map(), rows = [], fingerprint = "";

// a button that says why it could not do its work
function doer(label, act) {
  const made = button(label, async () => {
    made.disabled = true;
    const answer = await act();
    if (answer?.error) made.replaceWith(make("span", "fault", answer.error));
    else look();
  });
  return made;
}

function ends(row) {
  const open = row.made.map((name) => button(`${say("Open", "打开")} ${name}`, () => trigger("select", { name })));
  const undo = row.made.length ? [doer(say("Undo", "撤销"), () => server.undo(row.id))] : [];
  return [...open, ...undo, doer(say("Dismiss", "关闭"), () => server.dismiss(row.id))];
}

function left(seconds) {
  if (!seconds) return "";
  return seconds < 60 ? ` · ${Math.ceil(seconds)} s ${say("left", "剩余")}` : ` · ${Math.ceil(seconds / 60)} min ${say("left", "剩余")}`;
}

function bar(row) {
  const made = make("div", "bar", make("i", ""));
  made.setAttribute("role", "progressbar");
  made.setAttribute("aria-valuenow", Math.round((row.progress ?? 0) * 100));
  made.firstChild.style.width = `${((row.progress ?? 0) * 100).toFixed(1)}%`;
  return made;
}

function going(row) {
  const cancel = button(say("Cancel", "取消"), () => { cancel.disabled = true; server.stop(row.id).then(look); });
  cancel.disabled = row.state === "stopping";
  return make("div", "card job wait", make("p", "", make("b", "", row.title), ` ${row.message}${left(row.eta_s)} `, cancel), bar(row));
}

function line(row) {
  const made = row.active ? going(row) : over(row);
  made.dataset.run = row.id;
  return made;
}

function over(row) {
  const made = card(row.state === "completed" ? "good" : "bad", make("b", "", row.title), ` ${row.message}`);
  made.classList.add("job");
  made.append(make("div", "job-ends", ...ends(row)));
  return made;
}

function draw() {
  const now = JSON.stringify(rows);
  if (now === fingerprint) return; // a button that is focused or pressed stays
  fingerprint = now;
  box.replaceChildren(...rows.filter((row) => row.shown).map(line));
}

// what ended since the last look, and also what began and ended between two looks
function tellEnd(before) {
  const over = rows.filter((row) => !row.active && (running.has(row.id) || !before.has(row.id)));
  if (!over.length) return;
  const fresh = over.find((row) => row.made.length && performance.now() - running.get(row.id) < AT_ONCE_MS);
  trigger("end", { made: fresh?.made ?? [] });
}

async function ask() {
  const subject = props.value, before = new Set(rows.map((row) => row.id));
  const answer = subject ? await server.jobs(subject) : { jobs: [] };
  if (subject !== props.value || answer.error) return true;
  rows = answer.jobs;
  if (askedFor === subject) tellEnd(before);
  else running = new Map();
  askedFor = subject;
  const now = performance.now();
  running = new Map(rows.filter((row) => row.active).map((row) => [row.id, running.get(row.id) ?? now]));
  draw();
  return running.size > 0;
}

const look = keepAsking(ask);
element.addEventListener("seedbed:look", look);
