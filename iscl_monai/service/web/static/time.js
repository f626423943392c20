// Times as the clock of whoever looks shows them; without this script they are the node's.
"use strict";

function showLocalTimes(root) {
  const two = (number) => String(number).padStart(2, "0");
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    element.textContent = `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  }
  for (const element of root.querySelectorAll(".time-zone")) {
    element.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
  }
}

showLocalTimes(document);
document.addEventListener("htmx:load", (event) => showLocalTimes(event.target.parentElement ?? document));
