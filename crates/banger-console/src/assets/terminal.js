// A terminal of a VM's, over one WebSocket: bytes are what is typed and printed, text is said about it.
import { Terminal } from "./xterm.mjs";
import { FitAddon } from "./addon-fit.mjs";

const place = document.getElementById("terminal");
const state = document.getElementById("terminal-state");
const again = document.getElementById("again");

const dark = matchMedia("(prefers-color-scheme: dark)").matches;
const terminal = new Terminal({
  cursorBlink: false,
  fontFamily: "ui-monospace, 'DejaVu Sans Mono', 'Liberation Mono', monospace",
  scrollback: 5000,
  screenReaderMode: true,
  theme: dark ? { background: "#14171a", foreground: "#e6e9ec", cursor: "#e6e9ec" } : { background: "#ffffff", foreground: "#1b1f23", cursor: "#1b1f23", selectionBackground: "#b6d5f5" },
});
const fit = new FitAddon();
terminal.loadAddon(fit);
terminal.open(place);
fit.fit();

// Tab is the shell's, so there is another way out of it for those who have no mouse.
terminal.attachCustomKeyEventHandler((event) => {
  if (event.type !== "keydown" || event.key !== "F6" || !event.ctrlKey || !event.shiftKey) return true;
  event.preventDefault();
  (again.hidden ? document.querySelector("header a") : again).focus();
  return false;
});

const PIECE = 16384;
const encoder = new TextEncoder();
let socket = null;

const say = (text) => {
  state.textContent = text;
};
const size = () => ({ columns: terminal.cols, rows: terminal.rows });
const note = () => {
  place.dataset.size = terminal.rows + "x" + terminal.cols;
};
const tell = (message) => {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
};
const type = (bytes) => {
  if (!socket || socket.readyState !== WebSocket.OPEN) return;
  for (let at = 0; at < bytes.length; at += PIECE) socket.send(bytes.subarray(at, at + PIECE));
};

const open = () => {
  again.hidden = true;
  say("Connecting…");
  const address = new URL(place.dataset.socket, location.href);
  address.protocol = "ws:";
  for (const [name, value] of Object.entries(size())) address.searchParams.set(name, value);
  const own = new WebSocket(address);
  own.binaryType = "arraybuffer";
  let ended = "The terminal lost its connection: bangerd ended or was restarted, you are signed out, or too many terminals are open.";
  own.onmessage = ({ data }) => {
    if (typeof data === "string") {
      const told = JSON.parse(data);
      if (told.begun) say("Connected.");
      if (told.ended) ended = told.ended;
      return;
    }
    // Only what was drawn is asked to be followed by more, so that a program that never stops fills nothing up.
    const length = data.byteLength;
    terminal.write(new Uint8Array(data), () => tell({ drawn: length }));
  };
  own.onclose = () => {
    if (socket === own) socket = null;
    say(ended);
    again.hidden = false;
    if (place.contains(document.activeElement)) again.focus();
  };
  socket = own;
};

terminal.onData((text) => type(encoder.encode(text)));
terminal.onBinary((text) => type(Uint8Array.from(text, (character) => character.charCodeAt(0))));
terminal.onResize(() => {
  note();
  tell({ size: size() });
});
note();
new ResizeObserver(() => fit.fit()).observe(place);
again.addEventListener("click", () => {
  terminal.reset();
  open();
  terminal.focus();
});
addEventListener("pagehide", () => socket && socket.close());
open();
terminal.focus();
