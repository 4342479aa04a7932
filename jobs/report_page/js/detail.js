{
  // A dialog about one face: large picture, parts, values, and the way to its neighbours.
  const { element, svg, data } = Report;
  const dialog = document.getElementById("detail");
  let faces = [];
  let at = 0;
  let picture = null;

  function open(list, position) {
    faces = list;
    show(position);
    if (!dialog.open) dialog.showModal();
  }

  function show(position) {
    at = (position + faces.length) % faces.length;
    const face = faces[at];
    const focused = dialog.contains(document.activeElement) ? document.activeElement.dataset.keep : null;
    picture = new Report.FacePicture(face);
    const set = document.getElementById("landmarks").value;
    picture.landmarks(set);
    picture.tint(document.getElementById("tint").checked);
    dialog.replaceChildren(
      bar(face),
      element("div", { class: "columns" },
        element("div", {}, picture.root, controls(set), parts(face)),
        element("div", {}, values(face), more(face))),
    );
    if (focused) dialog.querySelector(`[data-keep="${focused}"]`)?.focus();
  }

  function bar(face) {
    const button = (text, label, keep, onclick) =>
      element("button", { type: "button", "aria-label": label, "data-keep": keep, onclick }, text);
    return element(
      "div", { class: "bar" },
      element("h2", { id: "detail-title" }, element("bdi", {}, Report.called(face))),
      button("‹", "Previous face", "previous", () => show(at - 1)),
      button("›", "Next face", "next", () => show(at + 1)),
      button("Close", "Close", "close", () => dialog.close()),
    );
  }

  function controls(set) {
    const chosen = document.getElementById("landmarks");
    const select = element("select", {
      "data-keep": "landmarks", onchange: () => picture.landmarks(select.value),
    });
    select.append(...[...chosen.options].map((option) => option.cloneNode(true)));
    select.value = set;
    return element("div", { class: "controls" }, element("label", {}, "Landmarks ", select));
  }

  function parts(face) {
    if (!face.labels) return element("p", { class: "muted" }, "Its parts were not labelled.");
    const areas = Report.areas(face);
    const button = (name, i) => {
      const show = () => picture.mark(i + 1);
      const hide = () => picture.mark(0);
      const swatch = svg("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" },
        svg("rect", { width: 1, height: 1, fill: Report.partColor(i + 1) }));
      const percent = `${(100 * areas[i + 1]).toFixed(1)} %`;
      return element("li", {}, element(
        "button",
        { type: "button", "data-keep": `part${i}`, title: `${percent} of the crop`,
          onpointerenter: show, onpointerleave: hide, onfocus: show, onblur: hide, onclick: show },
        swatch, `${Report.plainPart(name)} ${percent}`,
      ));
    };
    return element("ul", { class: "parts", "aria-label": "Visible parts" }, ...data.parts.map(button));
  }

  function values(face) {
    const row = (name, value, note) =>
      element("tr", {}, element("th", { scope: "row", title: note }, name),
        element("td", { class: "number" }, value));
    const numbers = data.variables.map((variable, v) =>
      row(variable.label, face.values[v] === null ? "none" : Report.withUnit(face.values[v], variable), variable.hint));
    return element(
      "table", {}, element("tbody", {}, ...numbers,
        row("Faces in the image", String(face.faces)),
        row("Image", `${face.width} × ${face.height} px`)),
    );
  }

  function more(face) {
    const mesh = data.meshes.findIndex((m) => m.id === face.id && m.face === face.face);
    const source = { overlay: "The picture is cut out of the overlay.", photo: "",
      drawing: "The photograph cannot be had; this is drawn from the labels." }[face.source];
    const solid = mesh >= 0
      ? element("button", { type: "button", onclick: () => { dialog.close(); Report.viewer.show(mesh); } }, "Show in 3D")
      : element("details", {},
          element("summary", {}, "See it in 3D"),
          element("pre", { tabindex: "0" }, element("code", {},
            `python -m jobs.report ${Report.quoted(data.output)} --open-face ${Report.quoted(`${face.id}:${face.face}`)}`)));
    return element("div", {},
      element("p", { class: "muted" }, source, " Part file: ", element("bdi", {}, face.part)), solid);
  }

  /** For a POSIX shell. */
  Report.quoted = (text) =>
    /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

  dialog.addEventListener("keydown", (event) => {
    if (event.target instanceof HTMLSelectElement) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    show(at + step);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  Report.detail = { open };
}
