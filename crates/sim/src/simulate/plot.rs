//! The picture of a run: true error and believed bound, frequency and polls over time.

use super::Simulation;
use super::canvas::Canvas;
use super::report::seconds;
use crate::Point;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

/// Pixels of a picture.
const SIZE: (u32, u32) = (1280, 1400);
/// The error that the logarithmic scale begins with, seconds.
const ERROR_LEAST: f64 = 1e-9;
/// More events than that are not drawn.
const EVENTS_MAX: usize = 60;
/// So many times the usual distance of two points is a gap.
const GAP_STEPS: f64 = 8.0;

const ERROR: RGBColor = RGBColor(0x0b, 0x5f, 0xa5);
const BOUND: RGBColor = RGBColor(0xd9, 0x5f, 0x02);
const NEEDED: RGBColor = RGBColor(0x77, 0x77, 0x77);
const EVENT: RGBColor = RGBColor(0xc0, 0x39, 0x7b);
const POLL: RGBColor = RGBColor(0x1b, 0x7f, 0x5a);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);

/// The picture as SVG.
///
/// # Errors
/// When it cannot be drawn, in words.
pub fn plot_svg(simulation: &Simulation) -> Result<String, String> {
    let mut text = String::new();
    draw(simulation, &SVGBackend::with_string(&mut text, SIZE).into_drawing_area())?;
    Ok(text)
}

/// The picture as PNG.
///
/// # Errors
/// When it cannot be drawn, in words.
pub fn plot_png(simulation: &Simulation) -> Result<Vec<u8>, String> {
    let mut pixels = vec![0u8; (SIZE.0 * SIZE.1 * 3) as usize];
    draw(simulation, &Canvas(BitMapBackend::with_buffer(&mut pixels, SIZE)).into_drawing_area())?;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIZE.0, SIZE.1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
    written.map(|()| file).map_err(|error| error.to_string())
}

type Area<DB> = DrawingArea<DB, Shift>;

fn draw<DB: DrawingBackend>(simulation: &Simulation, root: &Area<DB>) -> Result<(), String> {
    if !simulation.strata.is_empty() {
        return Err("a fleet has no plot: its summary has a line for each stratum".to_owned());
    }
    if simulation.trace.len() < 2 {
        return Err("there is nothing to draw: the world was too short".to_owned());
    }
    root.fill(&WHITE).map_err(words)?;
    let title = format!("{}  (seed {})", simulation.title, simulation.seed);
    let root = root.titled(&title, ("sans-serif", 20).into_font().color(&INK)).map_err(words)?;
    let areas = root.split_evenly((4, 1));
    let [magnitude, error, frequency, poll] = &areas[..] else {
        return Err("the picture has no four parts".to_owned());
    };
    let scale = Scale::new(simulation);
    draw_magnitude(&scale, magnitude)?;
    draw_error(&scale, error)?;
    draw_frequency(&scale, frequency)?;
    draw_polls(&scale, poll)?;
    root.present().map_err(words)
}

fn words<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> String {
    error.to_string()
}

/// Time in a unit that suits it.
struct Scale<'a> {
    trace: &'a [Point],
    events: &'a [f64],
    unit: f64,
    name: &'static str,
}

impl<'a> Scale<'a> {
    fn new(simulation: &'a Simulation) -> Self {
        let (unit, name) = match simulation.duration {
            d if d <= 600.0 => (1.0, "seconds"),
            d if d <= 3.0 * 3600.0 => (60.0, "minutes"),
            d if d <= 4.0 * 86_400.0 => (3600.0, "hours"),
            _ => (86_400.0, "days"),
        };
        Self { trace: &simulation.trace, events: &simulation.event_times, unit, name }
    }

    /// The place of a time.
    fn at(&self, seconds: f64) -> f64 {
        seconds / self.unit
    }

    fn range(&self) -> std::ops::Range<f64> {
        0.0..self.at(self.trace.last().map_or(1.0, |point| point.time))
    }

    /// The trace without the times at which nobody watched: the machine slept.
    fn pieces(&self) -> impl Iterator<Item = &'a [Point]> {
        let usual = self.trace.last().map_or(1.0, |point| point.time) / self.trace.len() as f64;
        self.trace.chunk_by(move |a, b| b.time - a.time < GAP_STEPS * usual.max(1.0))
    }

    /// Lines through a value of each point, where it has one.
    fn lines<'s>(
        &'s self,
        value: impl Fn(&Point) -> Option<f64> + Copy + 's,
    ) -> impl Iterator<Item = impl Iterator<Item = (f64, f64)>> {
        self.pieces()
            .flat_map(move |piece| piece.chunk_by(move |a, b| value(a).is_some() == value(b).is_some()))
            .filter(move |run| value(&run[0]).is_some())
            .map(move |run| run.iter().filter_map(move |p| Some((self.at(p.time), value(p)?))))
    }
}

/// A part of the picture with axes over `times` and `values`.
fn chart<'a, DB, Y>(
    area: &'a Area<DB>,
    title: &str,
    scale: &Scale<'_>,
    values: Y,
    format: &dyn Fn(&f64) -> String,
) -> Result<ChartContext<'a, DB, Cartesian2d<plotters::coord::types::RangedCoordf64, Y::CoordDescType>>, String>
where
    DB: DrawingBackend + 'a,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16).into_font().color(&INK))
        .margin(10)
        .margin_right(30)
        .x_label_area_size(45)
        .y_label_area_size(100)
        .build_cartesian_2d(scale.range(), values)
        .map_err(words)?;
    chart
        .configure_mesh()
        .x_labels(13)
        .y_labels(8)
        .x_desc(scale.name)
        .y_label_formatter(format)
        .label_style(("sans-serif", 16).into_font().color(&INK))
        .axis_style(NEEDED)
        .bold_line_style(BLACK.mix(0.15))
        .light_line_style(BLACK.mix(0.04))
        .draw()
        .map_err(words)?;
    // What happened in the world, as long as the lines can be told apart.
    let range = chart.y_range();
    for event in scale.events.iter().take(EVENTS_MAX).map(|event| scale.at(*event)) {
        let line = PathElement::new([(event, range.start), (event, range.end)], EVENT.mix(0.6));
        chart.draw_series(std::iter::once(line)).map_err(words)?;
    }
    Ok(chart)
}

/// A legend in the upper right corner, once all series are drawn.
macro_rules! legend {
    ($chart:expr) => {
        $chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .label_font(("sans-serif", 16).into_font().color(&INK))
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.2))
            .draw()
            .map_err(words)
    };
}

/// Adds lines of one kind, with one entry in the legend.
macro_rules! lines {
    ($chart:expr, $lines:expr, $color:expr, $label:expr) => {
        for (index, points) in $lines.into_iter().enumerate() {
            let series =
                $chart.draw_series(LineSeries::new(points, $color.stroke_width(2))).map_err(words)?;
            if index == 0 {
                series
                    .label($label)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], $color.stroke_width(2)));
            }
        }
    };
}

fn draw_magnitude<DB: DrawingBackend>(scale: &Scale<'_>, area: &Area<DB>) -> Result<(), String> {
    let size = |range: (f64, f64)| range.0.abs().max(range.1.abs()).max(ERROR_LEAST);
    let bound = |point: &Point| point.believed.map(size);
    let all = || scale.trace.iter().flat_map(|point| [Some(size(point.error)), bound(point)]).flatten();
    let (least, most) = (all().fold(f64::MAX, f64::min), all().fold(ERROR_LEAST, f64::max));
    let title = "error, and the bound that the daemon believes in (red: something happened)";
    let values = (least / 2.0..most * 20.0).log_scale();
    let mut chart = chart(area, title, scale, values, &|value| seconds(*value))?;
    lines!(chart, scale.lines(bound), BOUND, "bound");
    lines!(chart, scale.lines(|point| Some(size(point.error))), ERROR, "true error");
    legend!(chart)
}

/// The error with its sign, on a scale that fits most of the time.
fn draw_error<DB: DrawingBackend>(scale: &Scale<'_>, area: &Area<DB>) -> Result<(), String> {
    let extent = usual(scale.trace.iter().map(|point| point.error.0.abs().max(point.error.1.abs())));
    let title = "error with its sign (system clock minus true time)";
    let mut chart = chart(area, title, scale, -extent..extent, &|value| seconds(*value))?;
    let inside = move |value: f64| value.clamp(-extent, extent);
    for piece in scale.pieces() {
        let above = piece.iter().map(|point| (scale.at(point.time), inside(point.error.1)));
        let below = piece.iter().rev().map(|point| (scale.at(point.time), inside(point.error.0)));
        let band = Polygon::new(above.chain(below).collect::<Vec<_>>(), ERROR.mix(0.35));
        chart.draw_series(std::iter::once(band)).map_err(words)?;
    }
    for line in scale.lines(|point| Some(inside(f64::midpoint(point.error.0, point.error.1)))) {
        chart.draw_series(LineSeries::new(line, ERROR)).map_err(words)?;
    }
    let zero = [(0.0, 0.0), (scale.range().end, 0.0)];
    chart.draw_series(LineSeries::new(zero, BLACK.mix(0.4))).map_err(words)?;
    Ok(())
}

fn draw_frequency<DB: DrawingBackend>(scale: &Scale<'_>, area: &Area<DB>) -> Result<(), String> {
    let ppm = |ratio: f64| ratio * 1e6;
    let trace = scale.trace;
    let last = trace.last().map_or(0.0, |point| point.frequency_needed);
    let needed_extent = trace.iter().map(|p| (p.frequency_needed - last).abs()).fold(0.0, f64::max);
    let given = trace.iter().filter_map(|point| point.frequency_given);
    let extent = usual(given.map(|given| (given - last).abs())).max(1.2 * needed_extent);
    let (low, high) = (ppm(last - extent), ppm(last + extent));
    let digits = digits_of(high - low);
    let title = "frequency correction (without slews), ppm";
    let format = move |value: &f64| format!("{value:.digits$}");
    let mut chart = chart(area, title, scale, low..high, &format)?;
    let inside = move |ratio: f64| ppm(ratio).clamp(low, high);
    lines!(chart, scale.lines(|point| Some(inside(point.frequency_needed))), NEEDED, "needed");
    lines!(chart, scale.lines(|point| point.frequency_given.map(inside)), ERROR, "given");
    legend!(chart)
}

fn draw_polls<DB: DrawingBackend>(scale: &Scale<'_>, area: &Area<DB>) -> Result<(), String> {
    let polls = || scale.trace.iter().filter_map(|point| point.poll.map(|poll| (scale.at(point.time), poll)));
    let least = polls().map(|(_, poll)| poll.0).min().unwrap_or(4);
    let most = polls().map(|(_, poll)| poll.1).max().unwrap_or(10);
    let range = f64::from(least) - 0.5..f64::from(most) + 1.5;
    let interval = |value: &f64| {
        let whole = value.round();
        if (value - whole).abs() < 0.01 { format!("{} s", whole.exp2()) } else { String::new() }
    };
    let title = "poll interval, of the sources polled most and least often";
    let mut chart = chart(area, title, scale, range, &interval)?;
    let steps = |pick: fn((i8, i8)) -> i8| {
        let mut before = None;
        polls().flat_map(move |(time, poll)| {
            let value = f64::from(pick(poll));
            let corner = before.replace(value).map(|old| (time, old));
            corner.into_iter().chain([(time, value)])
        })
    };
    lines!(chart, [steps(|poll| poll.1)], NEEDED, "longest");
    lines!(chart, [steps(|poll| poll.0)], POLL, "shortest");
    legend!(chart)
}

/// A value that is seldom exceeded, with some room; of what is left when the start is over.
fn usual(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let place = values.len() * 97 / 100;
    values.get(place.min(values.len().saturating_sub(1))).map_or(1.0, |value| 1.3 * value.max(1e-12))
}

/// Digits behind the point that tell apart what lies in a range of this extent.
fn digits_of(extent: f64) -> usize {
    [1.0, 0.1, 0.01, 1e-3, 1e-4].iter().position(|step| extent > 20.0 * step).unwrap_or(5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::{ScenarioFile, simulate};

    fn simulation() -> Simulation {
        let file = ScenarioFile::parse("title = 'a picture'\nduration = '20m'\n[clock]\noffset = 0.05");
        simulate(&file.expect("it is a scenario"), 1)
    }

    #[test]
    fn the_picture_has_its_parts_in_both_formats() {
        let simulation = simulation();
        let svg = plot_svg(&simulation).expect("it can be drawn");
        for word in ["a picture", "true error", "bound", "needed", "poll interval", "</svg>"] {
            assert!(svg.contains(word), "{word}");
        }
        let png = plot_png(&simulation).expect("it can be drawn");
        assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
        assert!(png.len() > 10_000, "it is not empty: {}", png.len());
        assert_eq!(plot_svg(&simulation), Ok(svg), "the same world gives the same picture");
    }

    #[test]
    fn a_world_without_seconds_has_no_picture() {
        let simulation = Simulation { trace: Vec::new(), ..simulation() };
        assert!(plot_svg(&simulation).is_err());
    }
}
