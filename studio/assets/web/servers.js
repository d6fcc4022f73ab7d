// The model servers, a card each: nodes are kept by run, so that what is open, chosen or focused survives.
const STATES = {
  queued: say("queued", "排队中"), starting: say("starting", "启动中"), ready: say("ready", "就绪"), asleep: say("asleep", "休眠"),
  stopping: say("stopping", "停止中"), stopped: say("stopped", "已停止"), failed: say("failed", "失败"), lost: say("lost", "丢失"),
};
const PHASES = {
  process: say("process", "进程"), weights: say("weights", "权重"), compile: say("compile", "编译"), "KV cache": say("KV cache", "KV 缓存"),
  adapters: say("adapters", "适配器"), ready: say("ready", "就绪"),
};
const MOVING = ["queued", "starting", "stopping"], UP = ["ready", "asleep"], BAD = ["failed", "lost"], OTHER = "\u0000other";
const views = new Map();
const LOOK_MS = 2000, TELLING = ["merge", "sleep"];
let stamp = "", cards = [], due = 0;

function phases(card) {
  if (card.state !== "starting" || !card.phases.length) return [];
  const at = card.phases.findIndex(({ name }) => name === card.phase);
  const row = card.phases.filter(({ name }) => name !== "ready").map(({ name, seconds, usual_s }, index) => {
    const done = index < at, now = index === at;
    const took = done ? `${(seconds ?? 0).toFixed(1)} s` : `≈ ${usual_s.toFixed(usual_s < 10 ? 1 : 0)} s`;
    return make("li", done ? "done" : now ? "now" : "", make("b", "", PHASES[name] ?? name), make("small", "", took));
  });
  const whole = card.phases.reduce((sum, { seconds, usual_s }) => sum + (seconds ?? usual_s), 0);
  const share = whole ? Math.max(0.02, Math.min(0.98, 1 - card.eta_s / whole)) : 0;
  const bar = make("div", "bar", make("i"));
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-valuenow", Math.round(share * 100));
  bar.firstChild.style.width = `${(share * 100).toFixed(1)}%`;
  return [make("ol", "phases", ...row), bar];
}

function sentence(card) {
  if (card.state === "starting") return `${card.message || say("starting", "启动中")} · ${say(`about ${Math.ceil(card.eta_s)} s left`, `约剩 ${Math.ceil(card.eta_s)} 秒`)}`;
  if (card.state === "stopped") return card.message === "stopped" ? "" : card.message; // after how long idle, and whether the GPU is free again
  return card.state === "ready" ? card.says : "";
}

function proof({ check, is_base: isBase }) {
  if (isBase || !check) return "";
  const moved = say(`Asked ${check.rows} times in mixed batches: the base's log-probabilities moved by at most ${check.base_max_logprob_diff.toFixed(3)}, the adapter's differ from them by up to ${check.adapter_max_logprob_diff_from_base.toFixed(2)}.`,
    `混合批次提问 ${check.rows} 次：基座对数概率最多变化 ${check.base_max_logprob_diff.toFixed(3)}，适配器与其相差最多 ${check.adapter_max_logprob_diff_from_base.toFixed(2)}。`);
  const made = make("span", check.warning ? "doubt" : "proved");
  made.title = moved;
  const figure = check.reference_max_logprob_diff?.toFixed(3);
  if (check.warning) made.textContent = check.warning;
  else if (check.reference === "ok") made.textContent = say(`✓ answers as Transformers does, within ${figure}`, `✓ 与 Transformers 一致，误差 ≤ ${figure}`);
  else if (check.reference === "pending") made.textContent = say("✓ answers differ from the base's · being compared with Transformers …", "✓ 回答与基座不同 · 正在与 Transformers 比对…");
  else made.textContent = check.reference;
  return made;
}

function listed(card) {
  return card.models.map((model) => {
    const name = make("code", "", model.name);
    name.title = model.called;
    const line = make("li", "", name, make("small", "", model.is_base ? say("base", "基座") : model.called === model.name ? "" : model.called), proof(model));
    if (!model.is_base) line.append(button(say("Unload", "卸载"), () => act(card.run, "unload", model.name, say(`unloading ${model.name} …`, `正在卸载 ${model.name}…`))));
    return line;
  });
}

function adding(card) {
  const select = make("select", "small"), folder = make("input", "short folder");
  const there = new Set(card.models.map(({ called }) => called));
  const free = card.loadable.filter(([label]) => !there.has(label));
  for (const [label, path] of free) select.append(new Option(label, path));
  select.append(new Option(say("another folder …", "其他文件夹…"), OTHER));
  select.setAttribute("aria-label", say("Adapter", "适配器"));
  folder.placeholder = say("folder of an adapter or checkpoint", "适配器或检查点文件夹");
  folder.setAttribute("aria-label", folder.placeholder);
  const typed = () => { folder.hidden = select.value !== OTHER; };
  select.addEventListener("change", typed);
  typed();
  const load = button(say("Load", "加载"), () => {
    const path = select.value === OTHER ? folder.value.trim() : select.value;
    if (path) act(card.run, "load", path, say("loading it and checking its answers …", "正在加载并检查回答…"));
    else folder.focus();
  });
  return make("div", "panel-actions", make("span", "", say("Load an adapter:", "加载适配器：")), select, folder, load);
}

function deeds(card) {
  const { run, state } = card, deed = (text, verb, words, className) => button(text, () => act(run, verb, null, words), className);
  const restart = (text) => deed(text, "restart", say("starting again …", "正在重新启动…"));
  if (MOVING.includes(state)) return state === "stopping" ? [] : [deed(say("Stop", "停止"), "stop", say("stopping …", "正在停止…"))];
  if (!UP.includes(state)) return [restart(say("Start again", "再次启动")), deed(say("Remove", "移除"), "dismiss", "")];
  const rest = state === "asleep" ? [deed(say("Wake", "唤醒"), "wake", say("waking …", "正在唤醒…"), "primary")]
    : card.can_sleep ? [deed(say("Sleep", "休眠"), "sleep", say("going to sleep …", "正在休眠…"))] : [];
  return [...rest, restart(say("Restart", "重启")), deed(say("Stop", "停止"), "stop", say("stopping …", "正在停止…"))];
}

// What was asked of a server, and what came of it: an error stays until the next deed.
async function act(run, verb, what, words) {
  const view = views.get(run);
  view.busy = true;
  view.parts.said.replaceChildren(make("p", "server-says", words));
  for (const each of pressable(view)) each.disabled = true;
  let answer;
  try {
    answer = await server.act(verb, run, what);
  } catch {
    answer = { error: say("The studio does not answer: try again.", "studio 没有响应，请重试。") };
  }
  view.busy = false;
  const told = TELLING.includes(verb) ? [make("p", "server-says", answer.message)] : []; // the rest shows by itself
  view.parts.said.replaceChildren(...(answer.error ? [refusal(run, answer)] : told));
  if (answer.error) for (const each of pressable(view)) each.disabled = false; // what was typed stays
  else view.told = {};
  stamp = "";
  now();
}

const pressable = ({ node }) => node.querySelectorAll(".server-models button, .panel-actions button");

function refusal(run, { error, options, merges }) {
  const made = card("bad", error);
  if (options) {
    const change = Object.entries(options).map(([key, value]) => `${key}=${value}`).join(", ");
    made.append(button(say(`Restart with ${change}`, `以 ${change} 重启`), () => act(run, "restart", options, say("starting again …", "正在重新启动…")), "primary"));
  }
  if (merges) made.append(button(say("Merge it and serve that", "合并后提供服务"), () => act(run, "merge", merges, say("merging it, then starting a server for the merged model: this takes some minutes …", "正在合并，随后为合并后的模型启动服务，需要几分钟…")), "primary"));
  return made;
}

function fold(title, view, open = false) {
  const made = make("details", "", make("summary", "", title), view.node);
  made.open = open;
  made.addEventListener("toggle", () => { if (made.open) view.ask(); });
  return { made, view };
}

function logView(run) {
  const node = make("div");
  const parts = [["log", say("The end of the log", "日志末尾")], ["yaml", say("What the server was given (serve.yaml)", "启动配置（serve.yaml）")], ["command", say("As a command", "等价命令")]];
  const boxes = Object.fromEntries(parts.map(([name]) => [name, make("pre", name, "")]));
  for (const [name, title] of parts) node.append(make("h4", "", title), boxes[name]);
  async function ask() {
    const found = await server.inspect(run);
    for (const [name, pre] of Object.entries(boxes)) {
      const text = (found[name] ?? "").trim() || say("nothing yet", "暂无"), atEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 8;
      if (pre.textContent === text) continue;
      pre.textContent = text;
      if (name === "log" && atEnd) pre.scrollTop = pre.scrollHeight;
    }
  }
  return { node, ask };
}

function viewOf(run) {
  if (views.has(run)) return views.get(run);
  const parts = { line: make("div", "server-line"), steps: make("div"), names: make("div"), deeds: make("div", "panel-actions"), said: make("div"), folds: make("div") };
  const node = make("div", "server", ...Object.values(parts));
  node.dataset.run = run;
  views.set(run, { node, parts, told: {}, busy: false, open: [] });
  return views.get(run);
}

// A part is drawn anew only where what it tells has changed: a button that is pressed stays.
function fill(card) {
  const view = viewOf(card.run), { state } = card, isUp = UP.includes(state);
  const part = (name, about, drawn) => {
    const told = JSON.stringify(about);
    if (told === view.told[name] || view.busy) return;
    view.told[name] = told;
    view.parts[name].replaceChildren(...drawn());
  };
  part("line", [state, card.name, card.base, sentence(card)], () => [
    make("span", `badge ${state}`, STATES[state] ?? state), make("b", "", card.name),
    make("small", "", card.base === card.name ? "" : card.base), make("span", "server-says", sentence(card)),
  ]);
  part("steps", [state, card.message, card.phases, card.eta_s], () => (BAD.includes(state) ? [make("div", "card bad", make("p", "", card.message))] : phases(card)));
  part("names", [state, isUp && card.models, card.loadable], () => (isUp ? [make("ul", "server-models", ...listed(card)), ...(state === "ready" ? [adding(card)] : [])] : []));
  part("deeds", [state, card.can_sleep], () => deeds(card));
  unfold(view, card);
  return view.node;
}

// The load and the API are there once the server was; the log always is.
function unfold(view, card) {
  const wanted = UP.includes(card.state) ? ["load", "api", "log"] : ["log"];
  if (wanted.join() === view.open.map(({ name }) => name).join()) return;
  const made = {
    load: () => fold(say("Load", "负载"), loadView(card.run), true), api: () => fold(say("API for other programs", "供其他程序使用的 API"), apiView(card.run)),
    log: () => fold(say("Log and configuration", "日志与配置"), logView(card.run)),
  };
  view.open = wanted.map((name) => view.open.find((each) => each.name === name) ?? { name, ...made[name]() });
  view.parts.folds.replaceChildren(...view.open.map((each) => each.made));
}

function draw() {
  const filled = cards.map(fill);
  for (const run of views.keys()) if (!cards.some((card) => card.run === run)) views.delete(run);
  const nodes = filled.length ? filled : [hint(say("No server runs. Start one below, or simply ask something on the Compare page: it starts what it needs.", "没有正在运行的服务。可在下方启动，或直接在对比页提问，所需服务会自动启动。"))];
  if (nodes.length !== box.children.length || nodes.some((node, index) => node !== box.children[index])) box.replaceChildren(...nodes);
}

async function ask() {
  const moving = cards.some(({ state }) => MOVING.includes(state));
  if (moving || !stamp || performance.now() > due) {
    due = performance.now() + LOOK_MS;
    const answer = await server.look(stamp);
    if (answer) {
      ({ stamp, cards } = answer);
      draw();
    }
  }
  const open = [...views.values()].flatMap((view) => view.open).filter(({ made }) => made.open);
  for (const { view } of open) await view.ask();
  return moving || open.length > 0;
}

const now = keepAsking(ask);
element.addEventListener("seedbed:look", () => { stamp = ""; now(); });
