// What makes pages better, and nothing that they need: live parts, and times that stay true.
"use strict";

(() => {
  const address = document.body.dataset.live;
  const state = document.getElementById("live-state");
  let stream = null;

  const say = (text) => {
    if (!state) return;
    state.textContent = text;
    state.hidden = text === "";
  };

  // A part is made anew whole; whoever has the keyboard in it keeps it.
  const replace = ({ id, html }) => {
    const part = document.getElementById(id);
    if (!part) return;
    const active = document.activeElement;
    const inside = active && part.contains(active) && active !== part;
    const kind = "a, button, input, select, textarea, summary";
    const name = inside && active.textContent;
    part.innerHTML = html;
    if (inside) {
      const same = [...part.querySelectorAll(kind)].find((it) => it.textContent === name);
      if (same) same.focus();
      else document.getElementById("main").focus();
    }
  };

  const LONGEST_LOG = 400000;
  const append = (text) => {
    const log = document.getElementById("log");
    if (!log) return;
    const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    log.append(text);
    if (log.textContent.length > LONGEST_LOG) log.textContent = log.textContent.slice(-LONGEST_LOG / 2);
    if (follows) log.scrollTop = log.scrollHeight;
  };

  const close = () => {
    if (stream) stream.close();
    stream = null;
  };

  const open = () => {
    if (!address || stream || document.hidden) return;
    stream = new EventSource(address);
    stream.addEventListener("open", () => say(""));
    stream.addEventListener("part", (event) => replace(JSON.parse(event.data)));
    stream.addEventListener("log-begin", () => {
      const log = document.getElementById("log");
      if (log) log.textContent = "";
    });
    stream.addEventListener("log", (event) => append(JSON.parse(event.data)));
    stream.addEventListener("gone", (event) => {
      close();
      say("This page no longer changes: " + JSON.parse(event.data) + ". Reload it to see what there is.");
    });
    stream.addEventListener("error", () => {
      if (stream && stream.readyState === EventSource.CLOSED) {
        close();
        say("This page no longer changes by itself: bangerd ended or was restarted, or too many pages are open. Reload it, or sign in anew with `banger web`.");
      } else {
        say("bangerd does not answer at the moment: what is shown may be out of date.");
      }
    });
  };

  // A page that nobody looks at asks for nothing.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();

  const UNITS = [[31536000, "year"], [2592000, "month"], [604800, "week"], [86400, "day"], [3600, "hour"], [60, "minute"], [2, "second"]];
  const ago = (then) => {
    const seconds = Math.floor((Date.now() - then) / 1000);
    const found = UNITS.find(([length]) => seconds >= length);
    if (!found) return "just now";
    const count = found[1] === "second" ? seconds : Math.floor(seconds / found[0]);
    return count + " " + found[1] + (count === 1 ? "" : "s") + " ago";
  };
  setInterval(() => {
    if (document.hidden) return;
    for (const time of document.querySelectorAll("time[datetime]")) time.textContent = ago(Date.parse(time.dateTime));
  }, 10000);

  // A path that is typed is asked how it goes on: once it rests, and the newest question's answer counts.
  const REST = 120;
  for (const field of document.querySelectorAll("input[data-complete]")) {
    const list = document.getElementById(field.getAttribute("list"));
    let rest = 0;
    let asked = "";
    const ask = async () => {
      const typed = field.value;
      if (typed === asked || !typed.includes("/")) return;
      asked = typed;
      try {
        const answer = await fetch(field.dataset.complete + "&path=" + encodeURIComponent(typed));
        const paths = answer.ok ? await answer.json() : [];
        if (asked !== typed) return;
        list.replaceChildren(...paths.map((path) => Object.assign(document.createElement("option"), { value: path })));
      } catch {
        // Without an answer it is typed to its end.
      }
    };
    field.addEventListener("input", () => {
      clearTimeout(rest);
      rest = setTimeout(ask, REST);
    });
  }

  const log = document.getElementById("log");
  if (log) log.scrollTop = log.scrollHeight;
})();
