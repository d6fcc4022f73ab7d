// The exports of one kind: which there were, how far the chosen one is, its report, and where its result can go.
// The value is the id of the chosen run; the newest where it is none.
const STATES = {
  queued: say("queued", "排队中"), running: say("running", "进行中"), stopping: say("stopping", "停止中"), completed: say("completed", "已完成"),
  stopped: say("stopped", "已停止"), failed: say("failed", "失败"), lost: say("lost", "丢失"), damaged: say("damaged", "已损坏"),
};
const TAKES = {
  chat: say("Chat with it", "与它对话"), merge: say("Merge", "合并"), gguf: say("Make GGUF of it", "转为 GGUF"), ollama: say("For Ollama", "用于 Ollama"),
  quantize: say("Quantise", "量化"), adapter: say("Adapter tools", "适配器工具"), push: say("Upload", "上传"),
};
const places = Object.fromEntries(["notice", "list", "head", "going", "result", "report", "log"].map((name) => [name, make("div", `export-${name}`)]));
const drawn = new Map();
let stamp = "", shownFor = null, told = null, trashed = null;
box.append(...Object.values(places));

// draws a place anew only when what it is about has changed: what is open, focused or being pressed stays
function place(name, about, draw) {
  const now = JSON.stringify(about);
  if (drawn.get(name) === now) return;
  drawn.set(name, now);
  places[name].replaceChildren(...draw());
}

// a button that shows what came of it, and says why where nothing did
function doer(label, act, className = "") {
  const made = button(label, async () => {
    made.disabled = true;
    const answer = await act();
    if (answer?.error) made.replaceWith(make("span", "fault", answer.error));
    else look();
  }, className);
  return made;
}

const when = (seconds) => new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

function left(seconds) {
  if (seconds === null) return "";
  const time = seconds < 60 ? `${Math.ceil(seconds)} s` : seconds < 3600 ? `${Math.ceil(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
  return ` · ${say(`about ${time} left`, `约剩 ${time}`)}`;
}

function choose(id) {
  props.value = id;
  look();
}

function notice() {
  if (!trashed) return [];
  const undo = doer(say("Undo", "撤销"), async () => {
    const answer = await server.restore(trashed.id);
    if (!answer?.error) { choose(trashed.id); trashed = null; }
    return answer;
  });
  return [make("p", "export-trashed", say(`“${trashed.name}” is in the trash. `, `“${trashed.name}”已移到回收站。`), undo)];
}

function entry(run) {
  const made = make("button", "export-entry", make("i", `dot ${run.state}`), make("b", "", run.name), make("small", "", `${STATES[run.state] ?? run.state} · ${when(run.created)}`));
  made.type = "button";
  made.dataset.run = run.id;
  made.setAttribute("aria-pressed", run.id === told.chosen.id);
  made.addEventListener("click", () => choose(run.id));
  return made;
}

function listed() {
  const list = make("div", "export-entries", ...told.runs.map(entry));
  list.setAttribute("role", "group");
  list.setAttribute("aria-label", say("Newest first", "最新在前"));
  return [list];
}

function head({ id, name, state, created }) {
  return [make("div", "run-head", make("span", `badge ${state}`, STATES[state] ?? state), make("b", "", name), make("small", "", when(created)), make("code", "", id))];
}

function going({ id }) {
  const stop = button(say("Cancel", "取消"), () => { stop.disabled = true; server.stop(id).then(look); });
  stop.id = `${told.prefix}-stop`;
  const bar = make("div", "bar", make("i", ""));
  bar.setAttribute("role", "progressbar");
  return [make("div", "card wait export-card", make("p", "", make("span", "export-message"), " ", stop), bar)];
}

function move({ state, message, progress, eta_s: eta }) {
  const bar = places.going.querySelector(".bar");
  if (!bar) return;
  places.going.querySelector(".export-message").textContent = `${message || STATES[state]}${left(eta)}`;
  bar.classList.toggle("unknown", progress === null);
  bar.firstChild.style.width = `${(100 * (progress ?? 0)).toFixed(1)}%`;
  if (progress !== null) bar.setAttribute("aria-valuenow", Math.round(100 * progress));
  if (state === "stopping") places.going.querySelector("button").disabled = true;
}

function copier(text, label) {
  const made = button(label, async () => {
    await navigator.clipboard.writeText(await text());
    made.textContent = say("Copied", "已复制");
  });
  return made;
}

function remover({ id, name }, label) {
  const made = doer(label, async () => {
    const answer = await server.delete(id);
    if (!answer?.error) { trashed = { id, name }; props.value = ""; }
    return answer;
  }, "danger");
  made.id = `${told.prefix}-delete`;
  return made;
}

function ways({ id, result }) {
  const made = (result?.takes ?? []).map((to) => {
    const way = button(TAKES[to], () => trigger("select", { run: id, to }), to === "chat" ? "primary" : "");
    way.id = `${told.prefix}-${to}`;
    return way;
  });
  if (!result?.download) return made;
  const link = make("a", "small", say("Download", "下载"));
  link.href = new URL(result.download, document.baseURI);
  link.download = "";
  link.id = `${told.prefix}-download`;
  return [...made, link];
}

function came(run) {
  const parts = [];
  if (run.failure) parts.push(card("bad", run.failure));
  if (run.quarantine) {
    const why = say("It is in quarantine, and offered nowhere: ", "结果已被隔离，不会在任何地方提供：");
    parts.push(card("bad", why, make("code", "", run.quarantine.path), ` · ${run.quarantine.size}`));
  }
  if (run.result?.there) parts.push(card("good", make("code", "", run.result.path), ` · ${run.result.size}`));
  else if (run.result) parts.push(card("bad", make("code", "", run.result.path), say(" is no longer there: it was moved or deleted.", " 已不存在：被移动或删除。")));
  if (run.url) parts.push(card("good", linked(run.url)));
  const copy = run.report ? [copier(async () => (await server.read(run.id)).report, say("Copy the report", "复制报告"))] : [];
  return [...parts, make("div", "panel-actions", ...ways(run), ...copy, remover(run, say("Delete", "删除")))];
}

function linked(url) {
  const made = make("a", "", url);
  if (/^https?:/.test(url)) made.href = url;
  made.target = "_blank";
  made.rel = "noopener";
  return made;
}

function log({ id }) {
  const text = make("pre", "export-log-text");
  const fold = make("details", "report-fold", make("summary", "", say("Log", "日志")), text);
  fold.addEventListener("toggle", async () => { if (fold.open) text.textContent = (await server.read(id)).log || "…"; });
  return [fold];
}

function show() {
  const run = told.chosen;
  place("notice", trashed, notice);
  place("list", [told.runs, run?.id], () => (run ? listed() : [hint(say(...told.none))]));
  place("head", run && [run.id, run.state, run.name], () => (run ? head(run) : []));
  place("going", run && [run.id, run.active], () => (run?.active ? going(run) : []));
  place("result", run && [run.id, run.active, run.failure, run.result, run.quarantine, run.url, !run.report], () => (run && !run.active ? came(run) : []));
  place("report", run && [run.id, run.report, document.body.className], () => (run?.report ? [reportOf(run.report)] : []));
  place("log", run?.id ?? null, () => (run ? log(run) : []));
  if (run) move(run);
  box.dataset.state = run?.state ?? "none";
}

async function ask() {
  const asked = props.value || "";
  if (asked !== shownFor) [shownFor, stamp] = [asked, ""];
  const answer = await server.look([asked, stamp]);
  if (asked !== (props.value || "")) return true;
  if (answer?.error) throw new Error(answer.error);
  if (answer) {
    stamp = answer.stamp;
    told = answer;
  }
  show();
  return Boolean(told.chosen?.active);
}

const look = keepAsking(ask);
