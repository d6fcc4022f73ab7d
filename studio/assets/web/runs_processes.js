// The processes of a training: where each is and what it does, its log; the job of SLURM; what to run on further nodes.
const STALE_S = 20; // a process that lives says so every four seconds
const heading = make("summary"), told = make("div"), table = make("table", "runs processes"), output = make("pre", "process-log");
const fold = make("details", "fold", heading, told, table, output);
let run = null, stamp = "", seen = null, rank = null, skew_s = 0, done = true;
fold.hidden = true;
output.tabIndex = 0;
box.append(fold);

const number = (amount, one, many, chinese) => say(`${amount} ${amount === 1 ? one : many}`, `${amount} ${chinese}`);

function age(at) {
  if (!at || !seen.live) return "";
  const seconds = Math.max(0, Math.round(Date.now() / 1000 + skew_s - at));
  return seconds < 60 ? say(`${seconds} s ago`, `${seconds} 秒前`) : say(`${Math.round(seconds / 60)} min ago`, `${Math.round(seconds / 60)} 分钟前`);
}

function line(each) {
  const row = make("tr", "", ...cells(each).map(([text, className]) => make("td", className, text)));
  row.tabIndex = 0;
  row.dataset.rank = each.rank;
  row.setAttribute("aria-selected", each.rank === rank);
  row.title = each.problem || say("Show its log", "显示其日志");
  return row;
}

function cells(each) {
  const late = seen.live && each.at && Date.now() / 1000 + skew_s - each.at > STALE_S;
  const memory = each.memory_gb === null ? "" : `${each.memory_gb.toFixed(1)} GB`;
  return [[`${each.rank}`, "name"], [`${each.host}${seen.nodes > 1 ? ` (${say("node", "节点")} ${each.node})` : ""}`, ""], [each.device, "clip narrow-hidden"],
    [each.problem || (seen.live ? each.phase : say(`ended (${each.phase})`, `已结束（${each.phase}）`)), each.problem ? "clip over" : "clip"], [each.step ? count(each.step) : "", ""], [memory, "narrow-hidden"], [age(each.at), late ? "over" : "narrow-hidden"]];
}

function head() {
  const names = [[say("Rank", "序号"), ""], [say("Host", "主机"), ""], [say("Device", "设备"), "narrow-hidden"], [say("Phase", "阶段"), ""], [say("Step", "步"), ""], [say("Memory", "内存"), "narrow-hidden"], [say("Heard", "心跳"), "narrow-hidden"]];
  return make("thead", "", make("tr", "", ...names.map(([name, className]) => make("th", className, name))));
}

function job(slurm) {
  if (!slurm.job_id) return [];
  const where = [slurm.partition, slurm.nodes].filter(Boolean).join(" · ");
  const turn = slurm.position ? say(`number ${slurm.position} of ${slurm.pending} in the queue`, `队列第 ${slurm.position} / ${slurm.pending} 位`) : "";
  const start = slurm.expected_start ? say(`expected to start ${slurm.expected_start.replace("T", " ")}`, `预计 ${slurm.expected_start.replace("T", " ")} 开始`) : "";
  const more = [where, turn, slurm.reason && slurm.reason !== "None" ? slurm.reason : "", start].filter(Boolean).join(" · ");
  return [make("p", "slurm", say("SLURM job ", "SLURM 作业 "), make("b", "", `${slurm.job_id}`), " ", make("span", `badge ${slurm.state.toLowerCase()}`, slurm.state), more ? ` ${more}` : "")];
}

function commands(nodes) {
  if (!nodes.length) return [];
  const title = say("The training waits for its further nodes. Run on each:", "训练正在等待其他节点。请在各节点上运行：");
  return [card("wait", title), ...nodes.flatMap((each) => [make("h4", "", `${say("Node", "节点")} ${each.node}${each.host ? ` · ${each.host}` : ""}`), copied("code", each.text)])];
}

function drawTold() {
  const now = JSON.stringify([seen.slurm, seen.commands]);
  if (told.dataset.now === now) return; // what is selected in a command stays
  told.dataset.now = now;
  told.replaceChildren(...job(seen.slurm), ...commands(seen.commands));
}

function drawLog() {
  output.hidden = rank === null;
  if (output.hidden || output.textContent === seen.log) return;
  const atEnd = output.scrollTop + output.clientHeight >= output.scrollHeight - 8;
  output.textContent = seen.log || say("(it has printed nothing yet)", "（暂无输出）");
  if (atEnd) output.scrollTop = output.scrollHeight;
}

function draw() {
  const focused = document.activeElement?.dataset?.rank;
  const where = [seen.strategy, ...(seen.world ? [number(seen.world, "process", "processes", "个进程")] : []), ...(seen.nodes > 1 ? [number(seen.nodes, "node", "nodes", "个节点")] : [])];
  heading.replaceChildren(make("b", "", say("Processes", "进程")), ` ${where.join(" · ")}`);
  heading.title = say(...seen.sentence);
  drawTold();
  table.hidden = !seen.processes.length;
  table.replaceChildren(head(), make("tbody", "", ...seen.processes.map(line)));
  if (focused !== undefined) table.querySelector(`[data-rank="${focused}"]`)?.focus();
  drawLog();
}

function choose(event) {
  const row = event.target.closest("tr[data-rank]");
  if (!row || (event.type === "keydown" && event.key !== "Enter" && event.key !== " ")) return;
  event.preventDefault();
  rank = rank === Number(row.dataset.rank) ? null : Number(row.dataset.rank);
  seen.log = "";
  stamp = "";
  done = false;
  draw();
  again();
}

function begin(id) {
  run = id || null;
  stamp = ""; seen = null; rank = null; done = !run;
  fold.hidden = true;
}

async function ask() {
  if ((props.value || null) !== run) begin(props.value);
  if (done) return false;
  const asked = [run, rank], answer = await server.processes([run, rank, stamp]);
  if (asked[0] !== run || asked[1] !== rank) return true;
  if (answer.none) { done = true; return false; }
  skew_s = answer.now - Date.now() / 1000;
  if (answer.stamp) {
    if (!seen) fold.open = answer.processes.length <= 8;
    ({ stamp } = answer);
    seen = answer;
  }
  fold.hidden = false;
  draw();
  done = !seen.live;
  return seen.live && rank !== null;
}

table.addEventListener("click", choose);
table.addEventListener("keydown", choose);
const again = keepAsking(ask);
