"use strict";
// What all scripts share. Everything that comes from the output reaches the page as text.
const Report = { data: JSON.parse(document.getElementById("data").textContent) };
{
  const SVG = "http://www.w3.org/2000/svg";

  /** An element with attributes, listeners (onclick: …) and children; texts stay texts. */
  Report.element = (name, attributes = {}, ...children) =>
    filled(document.createElement(name), attributes, children);

  Report.svg = (name, attributes = {}, ...children) =>
    filled(document.createElementNS(SVG, name), attributes, children);

  function filled(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  Report.bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  Report.floats = (base64) => new Float32Array(Report.bytes(base64).buffer);
  Report.shorts = (base64) => new Int16Array(Report.bytes(base64).buffer);

  Report.count = (number) => number.toLocaleString("en-US");

  /** A value with as many digits as its histogram's steps can tell apart. */
  Report.value = (number, variable) => {
    if (number === null || Number.isNaN(number)) return "none";
    const digits = Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(variable.step))));
    const text = number.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
  };

  Report.withUnit = (number, variable) => {
    const space = variable.unit === "°" || !variable.unit ? "" : " ";
    return Report.value(number, variable) + space + variable.unit;
  };

  Report.duration = (seconds) => {
    if (seconds >= 5400) return `${(seconds / 3600).toFixed(1)} h`;
    if (seconds >= 90) return `${(seconds / 60).toFixed(1)} min`;
    return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  };

  Report.plainPart = (name) => name.replaceAll("_", " ");

  Report.called = (face) => `${face.id}, face ${face.face}`;
}
