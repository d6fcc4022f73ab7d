// What the Train form leads to: problems, then the plan. Also marks the sections in which something was changed.
const HEADINGS = {
  problems: say("Not ready", "尚不能开始"), doubtful: say("Look at this first", "请先查看"), ready: say("Ready", "就绪"),
};
const PARTS = {
  weights: say("weights", "权重"), gradients: say("gradients", "梯度"), optimizer: say("optimizer", "优化器"),
  activations: say("activations", "激活"), logits: say("logits", "logits"), reference: say("reference model", "参考模型"),
  communication: say("communication", "通信"), context: say("libraries", "运行库"),
};
const marks = document.head.appendChild(document.createElement("style"));

const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const size = (gb) => gb >= 100 ? `${gb.toFixed(0)} GB` : gb >= 1 ? `${gb.toFixed(1)} GB` : `${Math.max(1, gb * 1000).toFixed(0)} MB`;

function time(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function problem({ where, what, group }) {
  const name = group ? button(where, () => goTo(group, where), "row-link") : make("b", "", where);
  return make("li", "", name, ": ", what);
}

function listed(problems) {
  return problems.length ? [make("ul", "outlook-problems", ...problems.map(problem))] : [];
}

function figure(name, value, more = "") {
  return make("div", "tile", make("small", "", name), make("b", "", value), make("small", "", more));
}

function duration(plan) {
  if (plan.seconds !== null) return figure(say("Time", "时间"), `≈ ${time(plan.seconds)}`, say("at the pace of the last such run", "按上次同类运行的速度"));
  return figure(say("Time", "时间"), "?", say("known after the first such run", "首次同类运行后可知"));
}

function trained(plan) {
  const share = (100 * plan.trainable) / plan.parameters;
  const of = `${share.toPrecision(share < 99.5 ? 2 : 3)} % ${say("of", "/")} ${short.format(plan.parameters)}`;
  return figure(say("Trained parameters", "可训练参数"), short.format(plan.trainable), of);
}

function figures(plan) {
  const made = make("div", "tiles");
  const steps = plan.steps === null ? "?" : `${count(plan.steps)} ${plan.steps === 1 ? say("step", "步") : say("steps", "步")}`;
  const long = plan.epochs === null ? "" : `${plan.epochs} ${plan.epochs === 1 ? say("epoch", "轮") : say("epochs", "轮")}`;
  made.append(figure(say("Length", "长度"), steps, long));
  made.append(figure(say("Rows a step", "每步行数"), count(plan.rows_a_step), plan.batch.join(" × ")));
  if (plan.tokens !== null) made.append(figure(say("Tokens", "Token 数"), `≈ ${short.format(plan.tokens)}`, plan.rows === null ? "" : `${count(plan.rows)} ${say("rows an epoch", "行/轮")}`));
  made.append(duration(plan));
  if (plan.parameters) made.append(trained(plan));
  if (plan.disk_gb !== null) {
    const disk = figure(say("Disk", "磁盘"), `≈ ${size(plan.disk_gb)}`, `${size(plan.disk_free_gb)} ${say("free", "可用")}`);
    disk.classList.toggle("over", plan.disk_gb > plan.disk_free_gb);
    made.append(disk);
  }
  return made;
}

// the bar is as long as what is free, or as what is needed where that is more
function bar(memory) {
  const whole = Math.max(memory.total_gb, memory.free_gb);
  const parts = memory.parts.map(([part, gb]) => {
    const piece = make("i", `part-${part}`);
    piece.style.width = `${(100 * gb) / whole}%`;
    piece.title = `${PARTS[part]} ${size(gb)}`;
    return piece;
  });
  const made = make("div", "memory-bar", ...parts);
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", memory.parts.map(([part, gb]) => `${PARTS[part]} ${size(gb)}`).join(", "));
  return made;
}

function legend(memory) {
  return make("div", "memory-legend", ...memory.parts.map(([part, gb]) => make("span", "", make("i", `part-${part}`), `${PARTS[part]} ${size(gb)}`)));
}

function judged(needed_gb, free_gb, fits) {
  const tight = needed_gb > 0.92 * free_gb;
  const words = !fits ? say("will not fit", "放不下") : tight ? say("tight", "紧张") : say("fits", "放得下");
  const of = say(`${size(needed_gb)} of ${size(free_gb)} free`, `${size(needed_gb)} / 可用 ${size(free_gb)}`);
  return [make("span", fits ? (tight ? "tight" : "fits") : "over", words), ` · ${of}`];
}

// of one device where there are several, the one with the least room
function verdict(memory) {
  const processes = say(`each of ${memory.devices} processes on the CPU`, `CPU 上 ${memory.devices} 个进程中的每个`);
  const devices = say(`each of ${memory.devices} × ${memory.device}`, `${memory.devices} × ${memory.device} 中的每个`);
  const where = memory.devices === 1 ? memory.device : memory.device === "CPU" ? processes : devices;
  return make("p", "memory-verdict", make("b", "", `${say("Memory", "内存")}: `), ...judged(memory.total_gb, memory.free_gb, memory.total_gb <= memory.free_gb), ` · ${where}`);
}

// how the rows of a step go through the model, where that is not batch by batch
function course({ passes, tokens, step_tokens, recomputed, layers }) {
  const one = say(`The rows of a step go through the model at once, ≈ ${count(Math.round(step_tokens))} tokens`, `每步的数据一次通过模型，约 ${count(Math.round(step_tokens))} 个 token`);
  const several = say(`The rows of a step go through the model in ${passes} passes of up to ${count(tokens ?? 0)} tokens`, `每步的数据分 ${passes} 次通过模型，每次至多 ${count(tokens ?? 0)} 个 token`);
  const twice = say(`To save memory ${recomputed} of ${layers} layers are computed twice, which takes longer`, `为节省内存，${layers} 层中有 ${recomputed} 层计算两次，速度较慢`);
  const words = [...(passes ? [passes === 1 ? one : several] : []), ...(recomputed ? [twice] : [])];
  return words.length ? [make("p", "note", words.join(" · "))] : [];
}

function host(memory) {
  if (!memory.host_gb) return [];
  const title = make("b", "", say("Machine's memory: ", "主机内存："));
  return [make("p", "memory-verdict", title, ...judged(memory.host_gb, memory.host_free_gb, memory.host_gb <= memory.host_free_gb), ` · ${say("for what is offloaded", "用于卸载的内容")}`)];
}

function advice(memory) {
  if (memory.fits) return [];
  if (!memory.retry) return [make("p", "", say("No setting makes it fit here: choose a smaller model.", "没有设置能使其放下：请选择更小的模型。"))];
  const changes = Object.entries(memory.retry).map(([key, value]) => `${key}: ${value}`).join(", ");
  return [button(`${say("Set", "设置")} ${changes}`, () => trigger("apply", {}))];
}

function told(seen) {
  const subject = make("p", "", make("b", "", seen.subject[0]), ` · ${seen.subject[1]} · `, make("b", "", seen.subject[2]));
  const memory = seen.plan.memory;
  const notes = seen.notes.map((note) => make("p", "note", note));
  return [subject, figures(seen.plan), ...(memory ? [verdict(memory), bar(memory), legend(memory), ...course(memory.course), ...host(memory), ...advice(memory)] : []), ...notes];
}

function mark(changed) {
  const rule = ([group, keys]) => {
    const words = say(`${keys.length} changed`, `已改 ${keys.length} 项`);
    return `#option-section-${group} > button > span:first-child::after { content: " · ${words}"; }`;
  };
  marks.textContent = Object.entries(changed).map(rule).join("\n")
    .concat(Object.values(changed).flat().map((key) => `\n#option-${key} [data-testid=block-info] { color: light-dark(#047857, #6ee7b7); }`).join(""));
}

function draw() {
  if (!props.value) return;
  const seen = JSON.parse(props.value);
  box.replaceChildren(make("h3", seen.state, HEADINGS[seen.state]), ...listed(seen.problems), ...(seen.plan ? told(seen) : []));
  mark(seen.changed);
  document.dispatchEvent(new CustomEvent("seedbed:draft", { detail: seen.draft }));
}

watch("value", draw);
draw();
