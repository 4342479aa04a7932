{
  // Which of the sampled faces lie within all limits. Per face one bit for every variable whose
  // limits it breaks, so that a histogram can leave its own limits out of account.
  const { variables } = Report.data;
  const columns = Report.data.columns.map(Report.floats);
  const length = Report.data.sampled;
  const broken = new Uint16Array(length);
  const limits = variables.map(() => [-Infinity, Infinity]);
  const listeners = [];

  const isActive = ([low, high]) => low > -Infinity || high < Infinity;

  function binOf(value, { low, step, bins }) {
    return Math.min(bins - 1, Math.max(0, Math.floor((value - low) / step)));
  }

  const binned = columns.map((values, v) =>
    Int16Array.from(values, (value) => (Number.isNaN(value) ? -1 : binOf(value, variables[v]))),
  );

  function set(v, low, high) {
    limits[v] = [low ?? -Infinity, high ?? Infinity];
    const bit = 1 << v;
    const values = columns[v];
    const active = isActive(limits[v]);
    for (let i = 0; i < length; i++) {
      // Written so that a missing value, which is NaN, breaks every limit.
      const inside = !active || (values[i] >= limits[v][0] && values[i] <= limits[v][1]);
      broken[i] = inside ? broken[i] & ~bit : broken[i] | bit;
    }
    listeners.forEach((listener) => listener());
  }

  function matching() {
    let found = 0;
    for (let i = 0; i < length; i++) found += broken[i] === 0;
    return found;
  }

  /** Faces per bin, of those within the limits of all other variables and, if asked, its own. */
  function counts(v, own) {
    const found = new Uint32Array(variables[v].bins);
    const ignored = own ? 0 : 1 << v;
    for (let i = 0; i < length; i++) {
      if ((broken[i] & ~ignored) === 0 && binned[v][i] >= 0) found[binned[v][i]]++;
    }
    return found;
  }

  function totals(v) {
    const found = new Uint32Array(variables[v].bins);
    for (const bin of binned[v]) if (bin >= 0) found[bin]++;
    return found;
  }

  const passes = (values) =>
    limits.every((limit, v) => {
      if (!isActive(limit)) return true;
      return values[v] !== null && values[v] >= limit[0] && values[v] <= limit[1];
    });

  const condition = () =>
    limits
      .map(([low, high], v) => {
        const { sql } = variables[v];
        if (low > -Infinity && high < Infinity) return `${sql} BETWEEN ${low} AND ${high}`;
        if (low > -Infinity) return `${sql} >= ${low}`;
        return high < Infinity ? `${sql} <= ${high}` : null;
      })
      .filter(Boolean)
      .join(" AND ");

  function clear() {
    broken.fill(0);
    limits.forEach((_, v) => (limits[v] = [-Infinity, Infinity]));
    listeners.forEach((listener) => listener());
  }

  Report.filter = {
    columns, limits, isActive, set, clear, matching, counts, totals, passes, condition,
    onChange: (listener) => listeners.push(listener),
  };
}
