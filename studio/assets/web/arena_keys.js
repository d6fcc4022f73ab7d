// Votes by keyboard. The keys press the page's own buttons, and only while those are in sight and nobody is typing.
const BUTTONS = { 1: "vote-left", 2: "vote-right", 3: "vote-tie", 4: "vote-both_bad", s: "skip", u: "undo" };

function press(event) {
  if (!element.isConnected) return document.removeEventListener("keydown", press);
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest("input, textarea, select, [contenteditable], [role=listbox]")) return;
  const button = document.getElementById(`arena-${BUTTONS[event.key.toLowerCase()]}`);
  if (!button?.offsetParent) return;
  event.preventDefault();
  button.click();
}

document.addEventListener("keydown", press);
