// Files that wait to be registered: a click opens one, the cross forgets it.
function line(draft, index) {
  const open = button(draft.file_name, () => trigger("select", { index }), "draft-open");
  const shape = draft.problem || (draft.shape ? `${draft.shape} · ${Math.round(draft.confidence * 100)} %` : say("say which column is which", "请指定各列含义"));
  const state = make("span", `badge ${draft.problem ? "failed" : draft.sure ? "completed" : "queued"}`, draft.problem ? say("refused", "被拒绝") : draft.sure ? say("sure", "确定") : say("look", "请检查"));
  const leave = button("×", () => trigger("delete", { index }), "draft-leave");
  leave.setAttribute("aria-label", `${say("Leave out", "移除")} ${draft.file_name}`);
  const made = make("div", "draft-line", open, state, leave, make("small", "", shape));
  made.setAttribute("aria-current", draft.opened);
  return made;
}

function draw() {
  box.replaceChildren(...JSON.parse(props.value || "[]").map(line));
}

watch("value", draw);
draw();
