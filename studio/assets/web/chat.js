// The model servers of the Chat tab. Asks every second while one starts or stops, else every three, and only while seen.
const SLOW_TICKS = 3;
const box = element.querySelector(".servers");
let fingerprint = "", cards = [], memory = "", needs = "", signature = null, ticks = 0, busy = false, asked = "";

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function progress(card) {
  const share = card.expected_s ? Math.min(0.98, card.elapsed_s / card.expected_s) : 0;
  const bar = make("div", "bar");
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-valuenow", Math.round(share * 100));
  bar.append(make("i"));
  bar.firstChild.style.width = `${(share * 100).toFixed(1)}%`;
  return bar;
}

function sentence(card) {
  if (card.state === "starting")
    return `${card.message} · ${card.elapsed_s.toFixed(0)} of about ${card.expected_s.toFixed(0)} s`;
  if (card.state === "ready") return card.adapters.length ? `with ${card.adapters.join(", ")}` : "no adapter loaded";
  if (card.state === "off") return "starts with the first prompt, or with Start server";
  return card.state === "stopping" ? "ending its processes" : "";
}

function draw() {
  // what is open or focused must survive: nodes are kept by key and only their contents change
  const known = new Map([...box.children].map((node) => [node.dataset.key, node]));
  const nodes = cards.map((card) => fill(known.get(card.model) ?? shell(card.model), card));
  const coming = cards.some((card) => ["off", "failed", "starting"].includes(card.state));
  const hint = known.get("memory") ?? make("p", "server-memory");
  hint.dataset.key = "memory";
  hint.textContent = [needs, coming ? memory : ""].filter(Boolean).join(" · ");
  box.replaceChildren(...nodes, ...(hint.textContent ? [hint] : []));
}

function shell(key) {
  const node = make("div", "server");
  node.dataset.key = key;
  node.append(make("div", "server-line"), make("div", "server-more"), folded());
  return node;
}

function folded() {
  const more = make("details");
  more.append(make("summary", "", "Log and configuration"));
  for (const [name, title] of [["log", "The end of the log"], ["yaml", "What vLLM was given"], ["command", "As a command"]]) {
    more.append(make("h4", "", title), make("pre", name));
  }
  more.addEventListener("toggle", () => {
    if (more.open) look(more.parentElement.dataset.run, more);
  });
  return more;
}

function fill(node, card) {
  node.dataset.run = card.run;
  const [line, more, details] = node.children;
  line.replaceChildren(make("span", `badge ${card.state}`, card.state), make("b", "", card.model),
    make("span", "server-says", sentence(card)));
  if (card.state === "starting") more.replaceChildren(progress(card));
  else if (card.state === "failed") more.replaceChildren(make("div", "card bad", card.message));
  else more.replaceChildren();
  details.hidden = !card.run;
  return node;
}

async function look(run, details) {
  const found = await server.inspect(run);
  for (const name of ["log", "yaml", "command"]) {
    const pre = details.querySelector(`.${name}`);
    const text = (found[name] ?? "").trim() || "nothing yet";
    if (pre.textContent === text) continue;
    const atEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 8;
    pre.textContent = text;
    if (name === "log" && atEnd) pre.scrollTop = pre.scrollHeight;
  }
}

// the rest of the tab (buttons, remarks) follows only real changes, not every second of a start
function announce() {
  const now = JSON.stringify(cards.map((card) => [card.run, card.state, card.adapters, card.proofs]));
  if (now === signature) return;
  signature = now;
  trigger("select", {});
}

async function tick() {
  if (busy || document.hidden || !element.offsetParent || !props.value) return;
  const moving = cards.some((card) => card.state === "starting" || card.state === "stopping");
  if (props.value === asked && !moving && ticks++ % SLOW_TICKS) return;
  busy = true;
  try {
    asked = props.value;
    const answer = await server.look(...JSON.parse(asked).picks, fingerprint);
    if (answer) {
      ({ fingerprint, cards, memory, needs } = answer);
      draw();
      announce();
    }
    for (const details of box.querySelectorAll("details[open]")) await look(details.parentElement.dataset.run, details);
  } catch (error) {
    console.warn("servers:", error);
  } finally {
    busy = false;
  }
}

watch("value", tick);
tick();
const timer = setInterval(() => element.isConnected ? tick() : clearInterval(timer), 1000);
