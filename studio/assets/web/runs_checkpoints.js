// The checkpoints of a training: a line each, verified on demand, and the question how to go on from one of them.
const JUDGE_MS = 300;
const heading = make("summary"), list = make("div"), dialog = make("form", "resume");
const fold = make("details", "fold", heading, list, dialog);
const verdicts = new Map(); // by step: what verifying said
let run = null, stamp = "", seen = null, done = true, judging = null, asked = 0;
fold.hidden = dialog.hidden = true;
box.append(fold);

const size = (bytes) => bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : bytes >= 1e6 ? `${(bytes / 1e6).toFixed(0)} MB` : `${Math.max(1, Math.round(bytes / 1e3))} kB`;
const when = (at) => new Date(at * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
const whole = () => seen.checkpoints.filter(({ problem }) => !problem);

function state(each) {
  const verdict = verdicts.get(each.step) ?? "";
  const badge = each.problem || verdict.className === "over" ? make("span", "badge failed", say("damaged", "已损坏")) : make("span", "badge completed", say("complete", "完整"));
  const marks = [each.is_best && say("best", "最佳"), each.weights_only && say("weights only", "仅权重")].filter(Boolean);
  return make("td", "", badge, marks.length ? ` ${marks.join(" · ")}` : "", each.problem ? make("small", "over", each.problem) : "", verdict);
}

function actions(each) {
  const verify = button(say("Verify", "校验"), () => check(each.step));
  const resume = button(say("Resume from it …", "从此处继续…"), () => open(each.step));
  resume.disabled = seen.live || Boolean(each.problem);
  const words = seen.makes === "adapter" ? say("Make an adapter of it", "生成适配器") : say("Make a model of it", "生成模型");
  const made = button(words, () => trigger("consolidate", { run, step: each.step }));
  made.title = say("Consolidate: what the processes wrote in parts becomes one that can be served", "合并各进程写出的分片，生成可部署的产物");
  made.disabled = Boolean(each.problem);
  return make("td", "row-actions", verify, resume, made);
}

function line(each) {
  const processes = each.world === null ? "" : `${each.strategy} × ${each.world}`;
  const row = make("tr", "", make("td", "name", say(`step ${count(each.step)}`, `第 ${count(each.step)} 步`)), make("td", "narrow-hidden", when(each.at)),
    make("td", "", size(each.bytes)), make("td", "narrow-hidden", processes), state(each), actions(each));
  row.dataset.step = each.step;
  return row;
}

// an adapter or a model that was made of one of them
function madeLine(each) {
  const line = make("div", "panel-actions made", make("span", `badge ${each.state}`, each.state), make("b", "", each.name));
  if (each.active) {
    const bar = make("div", "bar", make("i"));
    bar.setAttribute("role", "progressbar");
    bar.firstChild.style.width = `${100 * (each.progress ?? 0)}%`;
    line.append(bar);
  }
  if (each.message) line.append(make("small", "", each.message));
  if (each.output) line.append(make("code", "", each.output), button(say("Chat with it", "对话"), () => trigger("select", { run: each.id, to: "chat" })));
  return line;
}

function nothing() {
  if (!seen.live) return hint(say("No checkpoint was saved. Start it again with save_steps or save_minutes, and it can be resumed.", "没有保存检查点。请设置 save_steps 或 save_minutes 后重新开始，即可继续训练。"));
  const first = seen.every ? say(`The first one comes at step ${seen.every}, or with “Save now”.`, `第一个将在第 ${seen.every} 步保存，也可点击“立即保存”。`) : say("“Save now” saves one.", "可点击“立即保存”。");
  return hint(`${say("No checkpoint yet.", "尚无检查点。")} ${first}`);
}

function draw() {
  const newest = seen.checkpoints[0], focused = document.activeElement, row = focused?.closest("#run-checkpoints tr[data-step]");
  const place = row ? [...row.querySelectorAll("button")].indexOf(focused) : -1; // a line that is drawn anew keeps the focus
  const told = newest ? say(`${seen.checkpoints.length}, the last of step ${newest.step}`, `${seen.checkpoints.length} 个，最新为第 ${newest.step} 步`) : say("none", "无");
  heading.replaceChildren(make("b", "", say("Checkpoints", "检查点")), ` ${told}`);
  if (!newest) return list.replaceChildren(nothing());
  const names = [[say("Checkpoint", "检查点"), ""], [say("Written", "写入时间"), "narrow-hidden"], [say("Size", "大小"), ""], [say("Processes", "进程"), "narrow-hidden"], [say("State", "状态"), ""], ["", ""]];
  const head = make("thead", "", make("tr", "", ...names.map(([name, className]) => make("th", className, name))));
  const lost = whole().length ? [] : [card("bad", say("None of them is whole, so the training cannot go on: start it again.", "没有完整的检查点，无法继续训练：请重新开始。"))];
  list.replaceChildren(make("table", "runs checkpoints", head, make("tbody", "", ...seen.checkpoints.map(line))), ...lost, ...seen.made.map(madeLine));
  if (row) list.querySelectorAll(`[data-step="${row.dataset.step}"] button`)[place]?.focus();
}

// sizes at once, then the contents file by file: whoever leaves the page stops it
async function check(step) {
  const about = run, verdict = make("small", "");
  const tell = (text, className = "") => { verdict.textContent = text; verdict.className = className; draw(); };
  verdicts.set(step, verdict);
  tell("");
  const quick = await server.verify([run, step]);
  if (quick.error || quick.problems.length) return tell(quick.error ?? quick.problems.join("; "), "over");
  if (!quick.files.length) return tell(say("its files are whole, as far as their form tells: it has no manifest", "没有清单；从文件形式看完整"));
  const all = quick.files.reduce((sum, [, bytes]) => sum + bytes, 0), altered = [];
  let read = 0;
  for (const [name, bytes] of quick.files) {
    tell(say(`sizes are right; reading ${size(read)} of ${size(all)} …`, `大小正确；正在读取 ${size(read)} / ${size(all)}…`));
    const answer = await server.read([about, step, name]);
    if (about !== run || !element.isConnected) return;
    if (answer.error) return tell(answer.error, "over");
    if (!answer.whole) altered.push(name);
    read += bytes;
  }
  if (altered.length) tell(`${altered.join(", ")} ${say("was altered since: choose another checkpoint", "已被改动：请选择其他检查点")}`, "over");
  else tell(say(`✓ ${quick.files.length} files, ${size(all)}: every byte as it was written`, `✓ ${quick.files.length} 个文件，${size(all)}：内容与写入时一致`), "proved");
}

function field(label, input, more = "") {
  return make("label", "", make("span", "", label), input, make("small", "", more));
}

function numberInput(name, value, least) {
  const input = make("input", "short");
  Object.assign(input, { type: "number", name, value: value ?? "", min: least, step: name === "num_train_epochs" ? "any" : 1 });
  return input;
}

function picker(name, offered, chosen) {
  const select = make("select", "small");
  select.name = name;
  for (const [value, text] of offered) select.append(new Option(text, value, false, String(value) === String(chosen)));
  return select;
}

function scopes() {
  const lines = Object.entries(seen.scopes).map(([name, words]) => {
    const [title, sentence] = inChinese ? words[1] : words[0];
    const tick = make("input");
    Object.assign(tick, { type: "radio", name: "scope", value: name, checked: name === "all" });
    return make("label", "scope", tick, make("b", "", title), make("small", "", sentence));
  });
  return make("fieldset", "", make("legend", "", say("Take of it", "取用内容")), ...lines);
}

function open(step) {
  const { values } = seen, offered = whole().map((each) => [each.step, `${say(`step ${each.step}`, `第 ${each.step} 步`)}${each.is_best ? ` · ${say("best", "最佳")}` : ""}`]);
  fold.open = true;
  if (!offered.length) return list.scrollIntoView({ block: "nearest" });
  const devices = make("input", "short");
  Object.assign(devices, { name: "devices", value: values.devices ?? "", placeholder: "0,1" });
  const start = make("button", "small primary", say("Resume so", "按此继续"));
  const cancel = button(say("Cancel", "取消"), close);
  const automatic = say("empty: one for each GPU, two without", "留空：每 GPU 一个，无 GPU 时两个");
  dialog.replaceChildren(
    make("h4", "", say("How the training goes on", "如何继续训练")),
    make("div", "fields", field(say("From", "起点"), picker("step", offered, step ?? offered[0][0])),
      field(say("Strategy", "并行策略"), picker("parallel_strategy", seen.strategies.map((name) => [name, name]), values.parallel_strategy)),
      field(say("Processes per node", "每节点进程数"), numberInput("nproc_per_node", values.nproc_per_node, 1), automatic),
      ...(seen.gpus ? [field(say("GPUs", "GPU 编号"), devices, say("empty: the first ones", "留空：前几个"))] : []),
      field(say("Max steps", "最大步数"), numberInput("max_steps", values.max_steps, -1), say("-1: the epochs decide", "-1：由轮数决定")),
      field(say("Epochs", "轮数"), numberInput("num_train_epochs", values.num_train_epochs, 0))),
    scopes(), make("div", "judged"), make("div", "panel-actions", start, cancel));
  dialog.hidden = false;
  dialog.scrollIntoView({ block: "nearest" });
  dialog.elements.step.focus({ preventScroll: true });
  shift();
  judge();
}

function close() {
  dialog.hidden = true;
  dialog.replaceChildren();
}

// what the person wants: only what is not as it was counts as changed
function wanted() {
  const form = new FormData(dialog), changes = {};
  for (const [key, value] of Object.entries(seen.values)) {
    if (form.has(key) && form.get(key) !== String(value ?? "")) changes[key] = form.get(key);
  }
  return { step: Number(form.get("step")), scope: form.get("scope"), changes };
}

async function judge() {
  const mine = ++asked, { step, scope, changes } = wanted();
  const answer = await server.judge([run, step, scope, changes]);
  if (mine !== asked || dialog.hidden) return;
  const lines = answer.error ? answer.error.split("\n") : answer.warnings;
  const told = lines.length ? lines : [say("The training goes on as if it had not stopped.", "训练将如同未中断一样继续。")];
  const tone = answer.error ? "bad" : lines.length ? "wait" : "good";
  dialog.querySelector(".judged").replaceChildren(make("div", `card ${tone}`, ...told.map((text) => make("p", "", text))));
  dialog.querySelector("button.primary").disabled = Boolean(answer.error);
}

// what does not matter beside the rest is out of sight, and not sent
function shift() {
  const { parallel_strategy: strategy, max_steps: steps } = dialog.elements;
  const matters = { nproc_per_node: seen.spread.includes(strategy.value), num_train_epochs: Number(steps.value) < 0 };
  for (const [name, does] of Object.entries(matters)) {
    dialog.elements[name].disabled = !does;
    dialog.elements[name].closest("label").hidden = !does;
  }
}

function edited() {
  shift();
  clearTimeout(judging);
  asked += 1; // an answer on its way is about something else
  judging = setTimeout(judge, JUDGE_MS);
}

dialog.addEventListener("input", edited);
dialog.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
dialog.addEventListener("submit", (event) => {
  event.preventDefault();
  dialog.querySelector("button.primary").disabled = true; // once; another run is shown in a moment
  trigger("resume", { run, ...wanted() });
});

function begin(id) {
  run = id || null;
  stamp = ""; seen = null; done = !run;
  verdicts.clear();
  close();
  fold.hidden = true;
}

async function refresh() {
  const about = run, answer = await server.listed([run, stamp]);
  if (about !== run) return;
  if (answer?.none) { done = true; return; }
  if (answer) {
    ({ stamp } = answer);
    seen = answer;
    draw();
  }
  fold.hidden = false;
  done = !seen.live && !seen.made.some(({ active }) => active); // nothing more will happen to an ended run
}

async function ask() {
  if ((props.value || null) !== run) begin(props.value);
  if (!done) await refresh();
  return false;
}

box.addEventListener("seedbed:resume", async () => {
  await refresh(); // the run may have ended a moment ago
  if (seen) open();
});
box.addEventListener("seedbed:look", () => { done = !run; again(); });
const again = keepAsking(ask);
