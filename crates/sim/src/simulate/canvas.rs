//! A bitmap to draw a plot on, with letters of its own: no font of the machine is needed, and pictures are the same
//! everywhere.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use plotters::prelude::*;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
};

/// plotters' bitmap with another way to write.
pub(super) struct Canvas<'a>(pub(super) BitMapBackend<'a>);

type Outcome<'a> = Result<(), DrawingErrorKind<<BitMapBackend<'a> as DrawingBackend>::ErrorType>>;

/// The letters for a font of this size, pixels.
const fn letters(size: f64) -> RasterHeight {
    if size >= 20.0 { RasterHeight::Size20 } else { RasterHeight::Size16 }
}

fn signed(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn extent(text: &str, height: RasterHeight) -> (i32, i32) {
    let width = text.chars().count().saturating_mul(get_raster_width(FontWeight::Regular, height));
    (signed(width), signed(height.val()))
}

impl Canvas<'_> {
    /// Mixes a dot into what is there.
    fn dot(&mut self, at: (i32, i32), color: BackendColor, intensity: u8) -> Outcome<'static> {
        let (width, height) = self.get_size();
        let inside = |value: i32, limit: u32| u32::try_from(value).is_ok_and(|value| value < limit);
        if intensity == 0 || !inside(at.0, width) || !inside(at.1, height) {
            return Ok(());
        }
        let alpha = color.alpha * f64::from(intensity) / 255.0;
        self.0.draw_pixel(at, BackendColor { alpha, ..color })
    }
}

impl<'a> DrawingBackend for Canvas<'a> {
    type ErrorType = <BitMapBackend<'a> as DrawingBackend>::ErrorType;

    fn get_size(&self) -> (u32, u32) {
        self.0.get_size()
    }

    fn ensure_prepared(&mut self) -> Outcome<'a> {
        self.0.ensure_prepared()
    }

    fn present(&mut self) -> Outcome<'a> {
        self.0.present()
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Outcome<'a> {
        self.0.draw_pixel(point, color)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Outcome<'a> {
        self.0.draw_rect(upper_left, bottom_right, style, fill)
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, pos: BackendCoord) -> Outcome<'a> {
        let (height, color, turn) = (letters(style.size()), style.color(), style.transform());
        let (wide, high) = extent(text, height);
        let left = match style.anchor().h_pos {
            HPos::Left => 0,
            HPos::Center => -wide / 2,
            HPos::Right => -wide,
        };
        let top = match style.anchor().v_pos {
            VPos::Top => 0,
            VPos::Center => -high / 2,
            VPos::Bottom => -high,
        };
        for (place, letter) in text.chars().enumerate() {
            let drawn = get_raster(letter, FontWeight::Regular, height)
                .or_else(|| get_raster('?', FontWeight::Regular, height));
            let Some(drawn) = drawn else { continue };
            for (y, row) in drawn.raster().iter().enumerate() {
                for (x, intensity) in row.iter().enumerate() {
                    let across = left + signed(place * drawn.width() + x);
                    let (dx, dy) = turn.transform(across, top + signed(y));
                    self.dot((pos.0 + dx, pos.1 + dy), color, *intensity)?;
                }
            }
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Self::ErrorType>> {
        let (wide, high) = extent(text, letters(style.size()));
        Ok((wide.unsigned_abs(), high.unsigned_abs()))
    }
}
