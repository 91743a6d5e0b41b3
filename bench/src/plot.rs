//! Curves as SVG, for the README.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

const SIZE: (u32, u32) = (720, 400);

/// What a plot says around its curves.
pub(crate) struct Plot<'t> {
    /// Above it.
    pub(crate) title: &'t str,
    /// Below the horizontal axis.
    pub(crate) x: &'t str,
    /// Beside the vertical one.
    pub(crate) y: &'t str,
}

/// One line.
pub(crate) struct Curve<'t> {
    /// What it is.
    pub(crate) name: &'t str,
    /// Its points, from left to right.
    pub(crate) points: Vec<(f64, f64)>,
}

impl Plot<'_> {
    /// Draws from 0 to the largest values.
    pub(crate) fn write(&self, path: &Path, curves: &[Curve<'_>]) -> Result<()> {
        self.draw(path, curves).map_err(|error| anyhow!("{}: {error}", path.display()))
    }

    fn draw(&self, path: &Path, curves: &[Curve<'_>]) -> Result<(), Box<dyn std::error::Error>> {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let width = points().map(|point| point.0).fold(0.0, f64::max);
        let height = points().map(|point| point.1).fold(0.0, f64::max) * 1.05;
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..width, 0.0..height)?;
        let number = |value: &f64| format!("{value}");
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(self.x).y_desc(self.y).x_label_formatter(&number).y_label_formatter(&number);
        mesh.light_line_style(WHITE).draw()?;
        for (n, curve) in curves.iter().enumerate() {
            let color = Palette99::pick(n).to_rgba();
            chart
                .draw_series(LineSeries::new(curve.points.iter().copied(), color.stroke_width(2)))?
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
        }
        if curves.len() > 1 {
            chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
        }
        area.present()?;
        Ok(())
    }
}
