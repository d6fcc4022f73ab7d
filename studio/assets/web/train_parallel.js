// The section "Several devices": what the strategy does, how many rows a step takes, the GPUs, DeepSpeed's settings.
// Nodes are kept, so that what has the focus keeps it.
const TYPING_MS = 300;
const sentence = make("p", "strategy-sentence"), rows = make("p", "strategy-rows");
const gpus = make("fieldset", "gpus"), zero = make("div", "zero"), verdict = make("div", "zero-verdict");
const editor = make("textarea", "code"), origin = make("small"), own = fileButton(".json", "edit", say("Load your own JSON file", "加载自己的 JSON 文件"));
const back = button(say("Back to the generated ones", "恢复自动生成的设置"), () => { due = clearTimeout(due); editor.blur(); trigger("edit", { text: "" }); });
let due = null, listed = "";

editor.id = "train-zero";
editor.rows = 16;
editor.spellcheck = false;
editor.setAttribute("aria-label", say("DeepSpeed settings (JSON)", "DeepSpeed 设置（JSON）"));
editor.dataset.option = "deepspeed";
zero.append(make("div", "panel-actions", make("b", "", say("DeepSpeed settings", "DeepSpeed 设置")), origin), editor, verdict, make("div", "panel-actions", own, back));
box.append(sentence, rows, gpus, zero, make("div", "panel-actions", fileButton(".yaml,.yml", "accelerate", say("Load an accelerate config", "加载 accelerate 配置")),
  make("small", "", say("as the command ", "由命令 "), make("code", "", "accelerate config"), say(" writes it: strategy, processes and nodes are taken from it", " 生成：取用其中的策略、进程数与节点数"))));

function fileButton(accept, event, words) {
  const input = make("input");
  input.type = "file";
  input.accept = accept;
  input.hidden = true;
  input.addEventListener("change", async () => {
    const [file] = input.files;
    input.value = ""; // the same file once more is a change too
    if (file) trigger(event, { text: await file.text(), name: file.name });
  });
  const shown = button(words, () => input.click());
  return make("span", "", shown, input);
}

function send() {
  due = clearTimeout(due);
  trigger("edit", { text: editor.value });
}
editor.addEventListener("input", () => { clearTimeout(due); due = setTimeout(send, TYPING_MS); });
editor.addEventListener("blur", () => { if (due) send(); });

function drawRows({ rows: told, distributed }) {
  rows.hidden = !told || !distributed;
  if (rows.hidden) return;
  const [batch, steps, processes, nodes] = told;
  const where = nodes > 1 ? say(`${processes} processes on ${nodes} nodes`, `${nodes} 个节点上的 ${processes} 个进程`) : say(`${processes} ${processes === 1 ? "process" : "processes"}`, `${processes} 个进程`);
  rows.replaceChildren(say("Effective batch: ", "有效批量："), make("b", "", count(batch * steps * processes)),
    ` = ${say("batch", "批量")} ${batch} × ${say("accumulation", "累积")} ${steps} × ${where}`);
}

function tickBox(gpu, chosen) {
  const tick = make("input");
  tick.type = "checkbox";
  tick.value = gpu.index;
  tick.checked = chosen.includes(gpu.index);
  const free = say(`${gpu.free_gb.toFixed(0)} of ${gpu.total_gb.toFixed(0)} GB free`, `可用 ${gpu.free_gb.toFixed(0)} / ${gpu.total_gb.toFixed(0)} GB`);
  return make("label", "", tick, make("b", "", `GPU ${gpu.index}`), ` ${gpu.name} `, make("small", "", free));
}

function drawGpus({ gpus: found, devices, distributed, local }) {
  const now = JSON.stringify([found, devices, distributed, local]);
  if (now === listed) return;
  listed = now;
  const none = distributed && local ? say("This machine has no GPU: the processes share its CPU.", "本机没有 GPU：各进程共用 CPU。") : "";
  const words = devices.length ? "" : say(" none ticked takes the first ones", " 都不选则使用前几个");
  const title = make("legend", "", make("b", "", say("GPUs", "GPU")), make("small", "", words));
  const focused = gpus.contains(document.activeElement) ? document.activeElement.value : null;
  gpus.replaceChildren(...(found.length ? [title, ...found.map((gpu) => tickBox(gpu, devices))] : none ? [make("small", "", none)] : []));
  if (focused !== null) gpus.querySelector(`input[value="${focused}"]`)?.focus();
}
gpus.addEventListener("change", () => trigger("pick", { text: [...gpus.querySelectorAll("input:checked")].map((tick) => tick.value).join(",") }));

function drawZero({ zero: told }) {
  zero.hidden = !told;
  if (!told) return;
  if (document.activeElement !== editor) editor.value = told.text;
  origin.textContent = told.own ? say("your own: they go before what is set here", "自定义：优先于此处的选项")
    : say("generated from the form; edit them to take them over", "由表单自动生成；编辑后即为自定义");
  back.hidden = !told.own;
  verdict.replaceChildren(...(told.problems.length ? [make("ul", "outlook-problems", ...told.problems.map((each) => make("li", "", each)))] : []));
  editor.setAttribute("aria-invalid", told.problems.length > 0);
}

function draw() {
  if (!props.value) return;
  const told = JSON.parse(props.value);
  sentence.textContent = say(...told.sentence);
  drawRows(told);
  drawGpus(told);
  drawZero(told);
}

watch("value", draw);
draw();
