//! Charts as SVG: lines over a scale, and bars made of parts. What is drawn is not known here.
//!
//! Text stays text, so no font is needed to write it, and the one that reads has its own. The
//! background is white, so that a chart is as readable on a dark page.

use plotters::{
    coord::Shift,
    element::DashedPathElement,
    prelude::{
        Cartesian2d, ChartBuilder, ChartContext, Circle, Color as _, DrawingArea, IntoDrawingArea as _, IntoFont as _,
        PathElement, RGBColor, Rectangle, SVGBackend, ShapeStyle, Text, TextStyle, WHITE,
    },
    style::text_anchor::{HPos, Pos, VPos},
};

use super::scale::Scale;

/// Colours that are told apart also by those who see fewer (Okabe and Ito), and in grey.
pub(crate) const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(80, 80, 80),
];
/// Of limits.
pub(crate) const LIMIT: RGBColor = RGBColor(180, 0, 0);
const WIDTH: i32 = 920;
/// Beside the chart, for the legend: it hides nothing there.
const BESIDE: i32 = 170;
/// The line in the legend.
const LEGEND: i32 = 25;
const MARK: i32 = 4;
/// Dash and gap.
const DASH: (i32, i32) = (7, 4);
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(222, 222, 222);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Scale, Scale>>;

/// A line, or points, over an axis.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) colour: RGBColor,
    pub(crate) dashed: bool,
    /// Each point is marked.
    pub(crate) marked: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Line {
    fn style(&self) -> ShapeStyle {
        ShapeStyle { color: self.colour.to_rgba(), filled: false, stroke_width: 2 }
    }

    /// Hollow on a dashed line, so that marks are told apart also without a line.
    fn mark(&self) -> ShapeStyle {
        ShapeStyle { filled: !self.dashed, ..self.style() }
    }
}

/// What all charts have.
pub(crate) struct Frame {
    pub(crate) title: String,
    pub(crate) x: (&'static str, Scale),
    pub(crate) y: (&'static str, Scale),
}

/// A part of each bar.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) colour: RGBColor,
    /// By bar, from the top.
    pub(crate) lengths: Vec<f64>,
}

/// Charts of lines, one above the other.
pub(crate) fn lines(panels: &[(Frame, Vec<Line>)]) -> anyhow::Result<String> {
    const HEIGHT: u32 = 400;
    const OF_SEVERAL: u32 = 290;
    let many = panels.len().max(1);
    let height = if many > 1 { OF_SEVERAL * many as u32 } else { HEIGHT };
    svg(height, |area| {
        for (area, (frame, lines)) in area.split_evenly((many, 1)).iter().zip(panels) {
            let (area, beside) = area.split_horizontally(WIDTH - BESIDE);
            let mut chart = framed(&area, frame, 76)?;
            let drawn: Vec<_> = lines.iter().filter(|line| !line.points.is_empty()).collect();
            for (row, line) in drawn.iter().enumerate() {
                draw_line(&mut chart, line)?;
                name_line(&beside, row, line)?;
            }
            if drawn.is_empty() {
                say_empty(&chart)?;
            }
        }
        Ok(())
    })
}

/// Bars to the right, made of parts; the names are those of the vertical scale.
pub(crate) fn bars(frame: &Frame, many: usize, parts: &[Part]) -> anyhow::Result<String> {
    const HEIGHT_OF_ONE: u32 = 24;
    const AROUND: u32 = 130;
    /// Half of a bar, where its place is one.
    const HALF: f64 = 0.36;
    svg(AROUND + HEIGHT_OF_ONE * many.max(3) as u32, |area| {
        let (area, beside) = area.split_horizontally(WIDTH - BESIDE);
        let mut chart = framed(&area, frame, 190)?;
        if many == 0 {
            return say_empty(&chart);
        }
        let mut ends = vec![0.0; many];
        for (row, Part { name, colour, lengths }) in parts.iter().enumerate() {
            let bars = ends.iter_mut().zip(lengths).enumerate().map(|(index, (end, length))| {
                let (from, middle) = (*end, -(index as f64) - 0.5);
                *end += length;
                Rectangle::new([(from, middle - HALF), (*end, middle + HALF)], colour.filled())
            });
            chart.draw_series(bars)?;
            let y = legend(&beside, row, name)?;
            beside.draw(&Rectangle::new([(LEGEND / 2 - 6, y - 6), (LEGEND / 2 + 6, y + 6)], colour.filled()))?;
        }
        Ok(())
    })
}

fn svg(height: u32, draw: impl for<'a> FnOnce(&Area<'a>) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH as u32, height)).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    Ok(text)
}

fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn framed<'a>(area: &Area<'a>, frame: &Frame, left: u32) -> anyhow::Result<Chart<'a>> {
    let (x, y) = (&frame.x, &frame.y);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_right(30)
        .caption(&frame.title, font(18))
        .x_label_area_size(46)
        .y_label_area_size(left)
        .build_cartesian_2d(x.1.clone(), y.1.clone())?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(GRID)
        .axis_style(INK)
        .label_style(font(14))
        .axis_desc_style(font(15))
        .x_desc(x.0)
        .y_desc(y.0)
        .set_all_tick_mark_size(4)
        .draw()?;
    Ok(chart)
}

fn draw_line(chart: &mut Chart<'_>, line: &Line) -> anyhow::Result<()> {
    let points = line.points.clone();
    if line.dashed {
        chart.draw_series([DashedPathElement::new(points, DASH.0, DASH.1, line.style())])?;
    } else {
        chart.draw_series([PathElement::new(points, line.style())])?;
    }
    if line.marked {
        chart.draw_series(line.points.iter().map(|at| Circle::new(*at, MARK, line.mark())))?;
    }
    Ok(())
}

/// The same beside the chart, with its name.
fn name_line(beside: &Area<'_>, row: usize, line: &Line) -> anyhow::Result<()> {
    let y = legend(beside, row, &line.name)?;
    let points = vec![(0, y), (LEGEND, y)];
    if line.dashed {
        beside.draw(&DashedPathElement::new(points, DASH.0, DASH.1, line.style()))?;
    } else {
        beside.draw(&PathElement::new(points, line.style()))?;
    }
    if line.marked {
        beside.draw(&Circle::new((LEGEND / 2, y), MARK, line.mark()))?;
    }
    Ok(())
}

/// A name beside the chart; what stands for it is drawn at the height that is returned.
fn legend(beside: &Area<'_>, row: usize, name: &str) -> anyhow::Result<i32> {
    const FIRST: i32 = 50;
    const HEIGHT: i32 = 20;
    let y = FIRST + HEIGHT * row as i32;
    let style = font(14).pos(Pos::new(HPos::Left, VPos::Center));
    beside.draw(&Text::new(name.to_owned(), (LEGEND + 8, y), style))?;
    Ok(y)
}

fn say_empty(chart: &Chart<'_>) -> anyhow::Result<()> {
    let area = chart.plotting_area().strip_coord_spec();
    let (width, height) = area.dim_in_pixel();
    let style = font(16).pos(Pos::new(HPos::Center, VPos::Center));
    area.draw(&Text::new("not measured", (width as i32 / 2, height as i32 / 2), style))?;
    Ok(())
}
