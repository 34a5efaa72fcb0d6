//! Line charts as SVG: a few panels above one another over a common x axis.
use std::fmt::Write;

/// What a chart shows.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Heading.
    pub title: String,
    /// What runs along x, below the last panel.
    pub x_label: String,
    /// From top to bottom.
    pub panels: Vec<Panel>,
}

/// One pair of axes.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What runs along y.
    pub y_label: String,
    /// The ends of y; if not given, those of the points and a little room.
    pub y_range: Option<(f64, f64)>,
    /// What is drawn, the first one lowest.
    pub series: Vec<Series>,
    /// Where the legend stands: at the right end, at the top or at the bottom.
    pub legend: Place,
}

/// Where a legend stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At the top.
    Top,
    /// At the bottom.
    Bottom,
}

/// One set of points. Those that are not finite are left out.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its entry in the legend; no entry if empty.
    pub label: String,
    /// A colour as SVG knows them: `#1f6feb`.
    pub colour: &'static str,
    /// How it is drawn.
    pub mark: Mark,
    /// Points (x, y), x rising.
    pub points: Vec<(f64, f64)>,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A line through the points.
    Line,
    /// A broad, pale line, to be seen under another one.
    Band,
    /// A thin broken line.
    Dashes,
    /// A small, pale dot on each point.
    Dots,
    /// A ring on each point.
    Rings,
    /// A disc that fits into the ring.
    Discs,
}

// Lengths in pixels.
const WIDTH: f64 = 860.0;
const PANEL: f64 = 270.0;
const GAP: f64 = 46.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 48.0;
/// From the middle of a line of text down to its base.
const MIDDLE: f64 = 4.0;

impl Chart {
    /// The picture, a whole SVG document.
    pub fn svg(&self) -> String {
        let panels = self.panels.len() as f64;
        let height = TOP + panels * PANEL + (panels - 1.0).max(0.0) * GAP + BOTTOM;
        let points = || self.panels.iter().flat_map(Panel::points);
        let x = Scale::new(span(points().map(|(x, _)| x)), (LEFT, WIDTH - RIGHT));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#333\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        text(&mut svg, (LEFT, 26.0), "font-size=\"15\" font-weight=\"bold\"", &self.title);
        for (i, panel) in self.panels.iter().enumerate() {
            let top = TOP + i as f64 * (PANEL + GAP);
            panel.draw(&mut svg, &x, top);
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        text(&mut svg, (middle, height - 12.0), "text-anchor=\"middle\"", &self.x_label);
        svg + "</svg>\n"
    }
}

impl Panel {
    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.series.iter().flat_map(Series::finite)
    }

    fn draw(&self, svg: &mut String, x: &Scale, top: f64) {
        let bottom = top + PANEL;
        let (low, high) = span(self.points().map(|(_, y)| y));
        // So that nothing lies on the axis itself.
        let room = (high - low) / 30.0;
        let ends = self.y_range.unwrap_or((low - room, high + room));
        let y = Scale::new(ends, (bottom, top));
        for tick in ticks(y.from, 6) {
            let at = y.of(tick);
            line(svg, (LEFT, at), (WIDTH - RIGHT, at), "#e4e4e4");
            text(svg, (LEFT - 8.0, at + MIDDLE), "text-anchor=\"end\"", &number(tick));
        }
        for tick in ticks(x.from, 8) {
            let at = x.of(tick);
            line(svg, (at, bottom), (at, bottom + 4.0), "#333");
            text(svg, (at, bottom + 17.0), "text-anchor=\"middle\"", &number(tick));
        }
        line(svg, (LEFT, bottom), (WIDTH - RIGHT, bottom), "#333");
        line(svg, (LEFT, top), (LEFT, bottom), "#333");
        let turned =
            format!("transform=\"rotate(-90 18 {0})\" text-anchor=\"middle\"", top + PANEL / 2.0);
        text(svg, (18.0, top + PANEL / 2.0), &turned, &self.y_label);
        for series in &self.series {
            series.draw(svg, x, &y);
        }
        self.draw_legend(svg, top);
    }

    /// The labels, one below the other.
    fn draw_legend(&self, svg: &mut String, top: f64) {
        let entries: Vec<_> = self.series.iter().filter(|s| !s.label.is_empty()).collect();
        let longest = entries.iter().map(|s| s.label.chars().count()).max().unwrap_or(0) as f64;
        let left = WIDTH - RIGHT - 48.0 - 6.2 * longest;
        let height = 18.0 * entries.len() as f64 + 8.0;
        let top = match self.legend {
            Place::Top => top + 4.0,
            Place::Bottom => top + PANEL - height - 6.0,
        };
        if !entries.is_empty() {
            let width = WIDTH - RIGHT - left - 6.0;
            let _ = writeln!(
                svg,
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"3\" \
                 fill=\"#fff\" fill-opacity=\"0.85\"/>"
            );
        }
        for (i, series) in entries.iter().enumerate() {
            let y = top + 13.0 + 18.0 * i as f64;
            let places = match series.mark {
                Mark::Line | Mark::Band | Mark::Dashes => vec![(left + 8.0, y), (left + 32.0, y)],
                Mark::Dots | Mark::Rings | Mark::Discs => vec![(left + 20.0, y)],
            };
            series.mark(svg, &places);
            text(svg, (left + 40.0, y + MIDDLE), "", &series.label);
        }
    }
}

impl Series {
    fn finite(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite())
    }

    fn draw(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let points: Vec<_> = self.finite().map(|point| (x.of(point.0), y.of(point.1))).collect();
        self.mark(svg, &points);
    }

    /// Draws at places of the picture.
    fn mark(&self, svg: &mut String, places: &[(f64, f64)]) {
        let colour = self.colour;
        let circles = |svg: &mut String, shape: &str| {
            for (x, y) in places {
                let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" {shape}/>");
            }
        };
        let path = |svg: &mut String, stroke: &str| {
            let points: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let points = points.join(" ");
            let _ = writeln!(
                svg,
                "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" {stroke}/>"
            );
        };
        match self.mark {
            Mark::Line => path(svg, "stroke-width=\"1.8\" stroke-linejoin=\"round\""),
            Mark::Band => {
                path(svg, "stroke-width=\"6\" stroke-opacity=\"0.4\" stroke-linejoin=\"round\"")
            }
            Mark::Dashes => path(svg, "stroke-width=\"1.2\" stroke-dasharray=\"5 4\""),
            Mark::Dots => {
                circles(svg, &format!("r=\"1.4\" fill=\"{colour}\" fill-opacity=\"0.45\""))
            }
            Mark::Rings => {
                circles(
                    svg,
                    &format!("r=\"6\" fill=\"#fff\" stroke=\"{colour}\" stroke-width=\"2\""),
                );
            }
            Mark::Discs => circles(svg, &format!("r=\"3.5\" fill=\"{colour}\"")),
        }
    }
}

/// A straight line from values to places.
#[derive(Debug, Clone, Copy)]
struct Scale {
    from: (f64, f64),
    to: (f64, f64),
}

impl Scale {
    /// `from`: two values, the lower first. Where they are the same, room is made around them.
    fn new(from: (f64, f64), to: (f64, f64)) -> Self {
        let (low, high) = from;
        let room = if high > low { 0.0 } else { low.abs().max(1.0) / 2.0 };
        Scale { from: (low - room, high + room), to }
    }

    fn of(&self, value: f64) -> f64 {
        let share = (value - self.from.0) / (self.from.1 - self.from.0);
        self.to.0 + share * (self.to.1 - self.to.0)
    }
}

/// The least and the greatest value; (0, 1) if there is none.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let ends = values.fold(None, |ends: Option<(f64, f64)>, v| {
        let (low, high) = ends.unwrap_or((v, v));
        Some((low.min(v), high.max(v)))
    });
    ends.unwrap_or((0.0, 1.0))
}

/// Round numbers within `(low, high)`, about `count` of them: steps of 1, 2 or 5 times a power of ten.
fn ticks((low, high): (f64, f64), count: u32) -> Vec<f64> {
    let rough = (high - low) / f64::from(count);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((low / step).ceil(), (high / step + 1e-9).floor());
    // Bounded, whatever rounding does to extreme values.
    (0..50).map(|i| first + f64::from(i)).take_while(|n| *n <= last).map(|n| n * step).collect()
}

/// `0.2` rather than `0.20000000000000001`.
fn number(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    format!("{}", if rounded == 0.0 { 0.0 } else { rounded })
}

fn line(svg: &mut String, a: (f64, f64), b: (f64, f64), colour: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
        a.0, a.1, b.0, b.1
    );
}

fn text(svg: &mut String, at: (f64, f64), attributes: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" {attributes}>{text}</text>", at.0, at.1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_by_hand() {
        let scale = Scale::new((2.0, 6.0), (300.0, 100.0));
        assert_eq!([2.0, 3.0, 6.0].map(|v| scale.of(v)), [300.0, 250.0, 100.0]);
        // One value stands in the middle.
        assert_eq!(Scale::new((4.0, 4.0), (0.0, 100.0)).of(4.0), 50.0);
        assert_eq!(span([3.0, -1.0, 2.0].into_iter()), (-1.0, 3.0));
        assert_eq!(span([].into_iter()), (0.0, 1.0));
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks((0.0, 1.0), 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks((5.7, 10.4), 6), [6.0, 7.0, 8.0, 9.0, 10.0]);
        assert_eq!(ticks((0.0, 349.0), 8), [0.0, 50.0, 100.0, 150.0, 200.0, 250.0, 300.0]);
        assert_eq!(
            ["0.6", "1", "0"],
            [0.6000000000000001, 1.0, -0.0].map(number).each_ref().map(String::as_str)
        );
        assert!(ticks((f64::MIN, f64::MAX), 6).len() <= 50);
    }

    #[test]
    fn a_chart_has_what_it_was_given() {
        let series = |label: &str, mark, points: &[(f64, f64)]| Series {
            label: label.to_owned(),
            colour: "#123456",
            mark,
            points: points.to_vec(),
        };
        let panel = |series| Panel {
            y_label: "a < b".to_owned(),
            y_range: Some((1.0, 3.0)),
            series,
            legend: Place::Top,
        };
        let chart = Chart {
            title: "x & y".to_owned(),
            x_label: "step".to_owned(),
            panels: vec![
                panel(vec![
                    series("line", Mark::Line, &[(0.0, 1.0), (5.0, f64::NAN), (10.0, 3.0)]),
                    series("", Mark::Rings, &[(10.0, 2.0)]),
                ]),
                panel(vec![]),
            ],
        };
        let svg = chart.svg();
        // x: 0 to 10 over 64 to 842; y: 1 to 3 over 314 to 44.
        assert!(svg.contains("points=\"64.0,314.0 842.0,44.0\""), "{svg}");
        assert!(svg.contains("<circle cx=\"842.0\" cy=\"179.0\" r=\"6\""), "{svg}");
        assert!(svg.contains("x &amp; y") && svg.contains("a &lt; b") && !svg.contains("NaN"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert_eq!(svg.matches(">line</text>").count(), 1);
    }
}
