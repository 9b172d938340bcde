/** A chart of figures over time, drawn by uPlot. */

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

const HEIGHT = 150;
const TIME = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit", second: "2-digit" });

/** One line over time: seconds since the epoch, and values; null where there is none. */
export function Chart({ title, times, values }: { title: string; times: number[]; values: (number | null)[] }) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const color = (name: string) => getComputedStyle(element).getPropertyValue(name).trim();
    const axis = { stroke: color("--pico-muted-color"), grid: { stroke: color("--pico-muted-border-color"), width: 1 } };
    plot.current = new uPlot(
      {
        width: element.clientWidth || 300,
        height: HEIGHT,
        cursor: { show: false },
        legend: { show: false },
        scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(high ?? 0, 1) * 1.1] } },
        axes: [
          { ...axis, space: 90, values: (_, seconds) => seconds.map((each) => TIME.format(each * 1000)) },
          { ...axis, size: 56, space: 40 },
        ],
        series: [{}, { stroke: color("--pico-primary"), width: 2, fill: `${color("--pico-primary")}22` }],
      },
      [times, values],
      element,
    );
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.current?.destroy();
    };
  }, []);
  useEffect(() => plot.current?.setData([times, values]), [times, values]);
  const latest = values.findLast((value) => value !== null);
  return (
    <figure class="chart">
      <figcaption>
        {title} <strong>{latest === undefined || latest === null ? "" : round(latest)}</strong>
      </figcaption>
      <div ref={box} aria-hidden="true" />
    </figure>
  );
}

function round(value: number): string {
  if (Number.isInteger(value)) return String(value);
  return value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toPrecision(2);
}
