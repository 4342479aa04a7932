export { select } from "d3-selection";
export { scaleLinear } from "d3-scale";
export { axisBottom, axisLeft } from "d3-axis";
export { area, curveStepAfter, line } from "d3-shape";
