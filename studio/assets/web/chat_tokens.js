// The tokens of an answer: the tip of the one under the pointer or in focus; arrow keys go from one to the next.
const tip = document.createElement("div");
tip.className = "token-tip";
tip.setAttribute("role", "tooltip");

function show(span) {
  tip.textContent = span.dataset.tip;
  document.body.append(tip);
  const at = span.getBoundingClientRect(), size = tip.getBoundingClientRect();
  const above = at.top - size.height - 6;
  tip.style.left = `${Math.max(4, Math.min(at.left, innerWidth - size.width - 4))}px`;
  tip.style.top = `${above > 4 ? above : at.bottom + 6}px`;
}

function hide() {
  tip.remove();
}

function step(event) {
  const forward = { ArrowRight: true, ArrowLeft: false }[event.key];
  const span = event.target.closest("[data-tip]");
  if (forward === undefined || !span) return;
  event.preventDefault();
  (forward ? span.nextElementSibling : span.previousElementSibling)?.focus();
}

for (const [name, act] of [["pointerover", show], ["focusin", show]]) {
  element.addEventListener(name, (event) => event.target.dataset?.tip ? act(event.target) : hide());
}
element.addEventListener("pointerleave", hide);
element.addEventListener("focusout", hide);
element.addEventListener("keydown", step);
watch("value", hide);
