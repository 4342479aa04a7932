{
  const { filter, data } = Report;
  const by = (id) => document.getElementById(id);

  function matching() {
    const found = filter.matching();
    const condition = filter.condition();
    by("matching").textContent = condition
      ? `${Report.count(found)} of ${Report.count(data.sampled)} faces match`
      : `${Report.count(data.sampled)} faces`;
    by("clear").hidden = by("elsewhere").hidden = !condition;
    by("condition").textContent =
      `python -m jobs.export ${Report.quoted(data.output)} DEST --where "${condition}" --meshes pca`;
  }

  function copy() {
    const said = (text) => {
      by("copy").textContent = text;
      setTimeout(() => (by("copy").textContent = "Copy"), 1500);
    };
    // Pages opened from a file may not write to the clipboard everywhere; selecting always works.
    const select = () => {
      getSelection().selectAllChildren(by("condition"));
      said("Selected");
    };
    if (!navigator.clipboard) return select();
    navigator.clipboard.writeText(by("condition").textContent).then(() => said("Copied"), select);
  }

  if (data.total > 0) {
    Report.histograms(by("histograms"));
    Report.gallery(by("gallery"));
    Report.viewer.build(by("viewer"));
    filter.onChange(matching);
    matching();
    by("clear").addEventListener("click", () => {
      filter.clear();
      by("distributions").querySelector("input")?.focus();
    });
    by("copy").addEventListener("click", copy);
  }
  Report.speed(by("throughput"));
}
