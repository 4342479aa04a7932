// What hyparquet makes of part files: `node open_with.mjs FILE…`, beside its node_modules.
// Prints what open_with.py prints.
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'

const rows = []
for (const path of process.argv.slice(2)) {
  const file = await asyncBufferFromFile(path)
  rows.push(...(await parquetReadObjects({ file, compressors, utf8: false })))
}
const points = rows.map((row) => row.ldm68).filter((list) => list != null)
const masks = rows.map((row) => row.seg_visible).filter((png) => png != null)
console.log(
  JSON.stringify({
    rows: rows.length,
    yaw: Number(rows.reduce((sum, row) => sum + (row.yaw ?? 0), 0).toFixed(3)),
    lists: points.length,
    numbers: points.reduce((sum, list) => sum + list.length, 0),
    first: points[0][0],
    masks: masks.filter((png) => Buffer.from(png).subarray(1, 4).toString() === 'PNG').length,
    nulls: rows.filter((row) => row.points106 == null).length,
  }),
)
