//! A chart: lines over two logarithmic axes, as SVG.

use crate::growth::Cost;
use crate::lines::Program;
use crate::picture::{circle, class, path, text};

const WIDTH: f64 = 376.0;
const LEFT: f64 = 58.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 226.0;
const LEGEND: f64 = 260.0;
/// The width of a label of the horizontal axis.
const LABEL: f64 = 52.0;
const LEGEND_LINE: f64 = 20.0;

/// One program's line.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) program: Program,
    /// The amount of work, and the seconds or KiB; both are more than 0.
    pub(crate) points: Vec<(f64, f64)>,
}

#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) cost: Cost,
    /// The marks of the horizontal axis: value and label.
    pub(crate) marks: Vec<(f64, String)>,
    pub(crate) series: Vec<Series>,
}

/// One axis: its values, and their places in the picture.
#[derive(Debug, Clone, Copy)]
struct Axis {
    from: f64,
    to: f64,
    begin: f64,
    end: f64,
}

impl Axis {
    fn at(self, value: f64) -> f64 {
        let part = (value / self.from).ln() / (self.to / self.from).ln();
        self.begin + (self.end - self.begin) * part
    }
}

impl Chart {
    /// Returns the height, with the legend.
    pub(crate) fn height(&self) -> f64 {
        self.series
            .iter()
            .fold(LEGEND, |height, _| height + LEGEND_LINE)
    }

    /// Returns an SVG group whose corner is at the given place. `None` unless two amounts were
    /// measured.
    pub(crate) fn draw(&self, left: f64, top: f64) -> Option<String> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let lowest = points().map(|p| p.1).fold(f64::INFINITY, f64::min);
        let highest = points().map(|p| p.1).fold(0.0, f64::max);
        let [first, .., last] = &self.marks[..] else {
            return None;
        };
        let across = Axis {
            from: first.0,
            to: last.0,
            begin: LEFT + 8.0,
            end: WIDTH - 24.0,
        };
        let up = Axis {
            from: lowest / 1.3,
            to: highest * 1.3,
            begin: BOTTOM,
            end: TOP,
        };
        let mut svg = format!("<g transform=\"translate({left:.0} {top:.0})\">\n");
        svg += &text(0.0, 12.0, "head", &self.title);
        self.draw_grid(&mut svg, across, up);
        for (n, series) in (0_u16..).zip(&self.series) {
            let y = LEGEND + 8.0 + f64::from(n) * LEGEND_LINE;
            series.draw(&mut svg, across, up, y);
        }
        svg += "</g>\n";
        Some(svg)
    }

    /// Returns the lines of the vertical axis, with their labels: at 1, 10, 100 and so on, and if
    /// these are fewer than two, also at 2 and 5.
    fn lines(&self, up: Axis) -> Vec<(f64, String)> {
        let at = |steps: &[f64]| -> Vec<(f64, String)> {
            let decades = (-6..6).map(|decade| 10_f64.powi(decade));
            let values = decades.flat_map(|decade| steps.iter().map(move |step| step * decade));
            let lines = values.map(|value| match self.cost {
                Cost::Time => (value, short_time(value)),
                Cost::Memory => (value * 1024.0, format!("{value} MiB")),
            });
            let shown = lines.filter(|(cost, _)| (up.from..=up.to).contains(cost));
            shown.collect()
        };
        let lines = at(&[1.0]);
        if lines.len() < 2 {
            at(&[1.0, 2.0, 5.0])
        } else {
            lines
        }
    }

    fn draw_grid(&self, svg: &mut String, across: Axis, up: Axis) {
        let right = WIDTH - 4.0;
        for (cost, label) in self.lines(up) {
            let y = up.at(cost);
            *svg += &path("grid", &format!("M{LEFT:.0} {y:.1}H{right:.0}"));
            *svg += &text(LEFT - 6.0, y + 4.0, "small end", &label);
        }
        // From the right, where the lines end; labels that would overlap are left out.
        let mut free = f64::INFINITY;
        for (value, label) in self.marks.iter().rev() {
            let x = across.at(*value);
            *svg += &path("grid", &format!("M{x:.1} {BOTTOM:.0}v4"));
            if free - x > LABEL {
                *svg += &text(x, BOTTOM + 18.0, "small middle", label);
                free = x;
            }
        }
        *svg += &path("axis", &format!("M{LEFT:.0} {BOTTOM:.0}H{right:.0}"));
    }
}

impl Series {
    fn draw(&self, svg: &mut String, across: Axis, up: Axis, legend: f64) {
        let class = class(self.program);
        let places: Vec<(f64, f64)> = self
            .points
            .iter()
            .map(|(work, cost)| (across.at(*work), up.at(*cost)))
            .collect();
        for (x, y) in &places {
            *svg += &circle(*x, *y, 2.5, &format!("dot {class}"));
        }
        let places: Vec<String> = places
            .iter()
            .map(|(x, y)| format!("{x:.1} {y:.1}"))
            .collect();
        let class = format!("line {class}");
        *svg += &path(&class, &format!("M{}", places.join("L")));
        *svg += &path(&class, &format!("M{LEFT:.0} {:.1}h36", legend - 4.0));
        *svg += &text(LEFT + 44.0, legend, "small", &self.program.plain());
    }
}

/// Formats a time without digits after the point, as in "20 ms".
fn short_time(seconds: f64) -> String {
    let units = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")];
    let fits = units.iter().find(|(unit, _)| seconds >= unit * 0.999);
    let (unit, name) = fits.unwrap_or(&(1e-6, "µs"));
    format!("{:.0} {name}", seconds / unit)
}
