//! The table as a picture: our error and chrony's over the jitter, a line for each wander.

use plotters::coord::Shift;
use plotters::prelude::*;
use serde::Deserialize;

/// Pixels of the picture.
const SIZE: (u32, u32) = (1100, 860);
/// What is drawn: the groups of the table that have a cell for each jitter and wander.
const PANELS: [(&str, &str); 4] = [
    ("poll16", "one server, every 16 s"),
    ("poll64", "one server, every 64 s"),
    ("default", "one server, default polling"),
    ("three-servers", "three servers, every 16 s"),
];
/// A colour for each wander of the table.
const WANDERS: [(f64, RGBColor); 4] = [
    (1e-10, RGBColor(0x0b, 0x5f, 0xa5)),
    (1e-9, RGBColor(0x1b, 0x7f, 0x5a)),
    (1e-8, RGBColor(0xd9, 0x5f, 0x02)),
    (1e-7, RGBColor(0xc0, 0x39, 0x7b)),
];
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);

/// What `--json` wrote, as far as it is drawn.
#[derive(Deserialize)]
struct Table {
    cells: Vec<Cell>,
}

#[derive(Deserialize)]
struct Cell {
    group: String,
    jitter_back: f64,
    wander: f64,
    rms: f64,
    chrony: f64,
}

/// Draws a report that `--json` made, as SVG.
///
/// # Errors
/// When it is no such report or cannot be drawn, in words.
pub(super) fn draw(report: &str) -> Result<String, String> {
    let table: Table = serde_json::from_str(report).map_err(|error| error.to_string())?;
    if !table.cells.iter().any(|cell| PANELS.iter().any(|(group, _)| *group == cell.group)) {
        return Err("it has no cell of a group that is drawn".to_owned());
    }
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw_all(&root, &table).map_err(|error| error.to_string())?;
    }
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Outcome<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw_all<'a>(root: &Area<'a>, table: &Table) -> Outcome<'a> {
    root.fill(&WHITE)?;
    let title =
        "RMS of the true error, seconds; lines: truechimer, circles: chrony; over the jitter, seconds";
    let root = root.titled(title, ("sans-serif", 18).into_font().color(&INK))?;
    for (area, (group, name)) in root.split_evenly((2, 2)).iter().zip(PANELS) {
        let cells: Vec<&Cell> = table.cells.iter().filter(|cell| cell.group == group).collect();
        draw_panel(area, name, &cells)?;
    }
    root.present()
}

fn draw_panel<'a>(area: &Area<'a>, name: &str, cells: &[&Cell]) -> Outcome<'a> {
    let power = |value: &f64| format!("{value:.0e}");
    let mut chart = ChartBuilder::on(area)
        .caption(name, ("sans-serif", 16).into_font().color(&INK))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(52)
        .build_cartesian_2d((7e-7..1.4e-2).log_scale(), (3e-8..2e-2).log_scale())?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_labels(5)
        .y_labels(7)
        .x_label_formatter(&power)
        .y_label_formatter(&power)
        .draw()?;
    for (wander, color) in WANDERS {
        let mut points: Vec<&Cell> =
            cells.iter().copied().filter(|cell| (cell.wander / wander - 1.0).abs() < 1e-3).collect();
        points.sort_by(|a, b| a.jitter_back.total_cmp(&b.jitter_back));
        let ours = points.iter().map(|cell| (cell.jitter_back, cell.rms));
        let label = format!("wander {wander:.0e}");
        chart
            .draw_series(LineSeries::new(ours, color.stroke_width(2)).point_size(2))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        chart
            .draw_series(points.iter().map(|cell| Circle::new((cell.jitter_back, cell.chrony), 4, color)))?;
    }
    let position = SeriesLabelPosition::UpperLeft;
    chart.configure_series_labels().position(position).background_style(WHITE).border_style(INK).draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_drawn_and_anything_else_is_refused() {
        let cell = r#"{"group": "poll64", "jitter_back": 1e-4, "wander": 1e-9, "rms": 1e-5, "chrony": 2e-5}"#;
        let svg = draw(&format!(r#"{{"cells": [{cell}]}}"#)).expect("a picture");
        assert!(svg.starts_with("<svg") && svg.contains("every 64 s") && svg.matches("<circle").count() >= 2);
        for wrong in ["", "{}", r#"{"cells": []}"#] {
            assert!(draw(wrong).is_err(), "{wrong}");
        }
    }
}
