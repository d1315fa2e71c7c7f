//! Paints the Mandelbrot set. Shows `.distribute()` with calls of different lengths: a tile inside the set takes thousands
//! of times as long as one far outside, and still no node is idle while another has tiles left. `.progress()` shows a
//! progress bar, and `.name(..)` shows the same to everybody else: in `distribution runs`, `distribution top` and the page.
//!
//! `cargo run --release --example mandelbrot` runs it in one process. Over several:
//!
//! ```text
//! mandelbrot master --listen 127.0.0.1:3000 --wait 2
//! mandelbrot node --master 127.0.0.1:3000        # twice
//! ```
//!
//! `examples/mandelbrot.png` was painted by
//!
//! ```text
//! mandelbrot --width 640 --height 400 --centre-x -0.7469 --centre-y 0.1151 --zoom 450
//! ```
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{
    error::Error,
    fs::File,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::{Args, Parser};
use distribution::{Master, prelude::*};
use distribution_examples::{Place, above_zero, counted, milliseconds, nodes_of};
use serde::{Deserialize, Serialize};

/// What the nodes calculate.
#[distribution::service(idempotent)]
pub trait Mandelbrot {
    /// How long the point of each pixel stays near zero, row by row: from 0, not at all, to 1, in the set.
    fn tile(&self, view: View, tile: Tile) -> Vec<f32>;
}

/// The whole picture: its part of the plane, and its size in pixels.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct View {
    width: u32,
    height: u32,
    centre_x: f64,
    centre_y: f64,
    /// The side of a pixel in the plane.
    pixel: f64,
    iterations: u32,
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Tile {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

struct Painter;

impl Mandelbrot for Painter {
    fn tile(&self, view: View, tile: Tile) -> Vec<f32> {
        let rows = tile.top..tile.top + tile.height;
        let columns = tile.left..tile.left + tile.width;
        rows.flat_map(|row| columns.clone().map(move |column| view.shade(column, row))).collect()
    }
}

impl View {
    /// The mean of four points of the pixel, which makes edges smooth.
    fn shade(&self, column: u32, row: u32) -> f32 {
        const POINTS: [(f64, f64); 4] = [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)];
        let sum: f64 = POINTS
            .iter()
            .map(|(right, down)| {
                let x = self.centre_x + (f64::from(column) + right - f64::from(self.width) / 2.0) * self.pixel;
                let y = self.centre_y - (f64::from(row) + down - f64::from(self.height) / 2.0) * self.pixel;
                self.withstands(x, y)
            })
            .sum();
        (sum / POINTS.len() as f64) as f32
    }

    /// How long the point stays near zero under `z -> z * z + c`, on a logarithmic scale: from 10 to 20 steps is as far as
    /// from 100 to 200.
    fn withstands(&self, x: f64, y: f64) -> f64 {
        // Beyond 2 it never returns. Far beyond, each step does little more than square the distance, so that steps can be
        // counted in fractions.
        const FAR: f64 = 65_536.0;
        let (mut re, mut im) = (0.0_f64, 0.0_f64);
        for step in 0..self.iterations {
            let distance = re * re + im * im;
            if distance > FAR {
                let steps = f64::from(step) - (distance.ln() / FAR.ln()).log2();
                return (steps.max(0.0).ln_1p() / f64::from(self.iterations).ln_1p()).min(1.0);
            }
            (re, im) = (re * re - im * im + x, 2.0 * re * im + y);
        }
        1.0
    }
}

/// Paints the Mandelbrot set over nodes, tile by tile, into a PNG file.
///
/// Without a command it starts a local cluster, paints, and ends.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    picture: Picture,

    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct Picture {
    /// Width of the picture in pixels.
    #[arg(long, default_value_t = 1280, global = true, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    width: u32,
    /// Height of the picture in pixels.
    #[arg(long, default_value_t = 800, global = true, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    height: u32,
    /// Width and height of a tile in pixels. Those at the right and at the bottom may be smaller.
    #[arg(long, default_value_t = 64, global = true, value_parser = clap::value_parser!(u32).range(8..=2048))]
    tile: u32,
    /// The file to write.
    #[arg(long, default_value = "mandelbrot.png", global = true)]
    output: PathBuf,
    /// Steps after which a point counts as one of the set.
    #[arg(long, default_value_t = 2000, global = true, value_parser = clap::value_parser!(u32).range(1..))]
    iterations: u32,
    /// Where in the plane the middle of the picture is, from left to right.
    #[arg(long, default_value_t = -0.7, global = true, allow_negative_numbers = true)]
    centre_x: f64,
    /// Where in the plane the middle of the picture is, from bottom to top.
    #[arg(long, default_value_t = 0.0, global = true, allow_negative_numbers = true)]
    centre_y: f64,
    /// How many times to magnify; 1 shows the whole set.
    #[arg(long, default_value_t = 1.0, global = true, value_parser = above_zero)]
    zoom: f64,
}

impl Picture {
    fn view(&self) -> View {
        let Self { width, height, centre_x, centre_y, iterations, .. } = *self;
        // The set is 2.5 wide and 2.3 high, and gets a margin.
        let pixel = (3.2 / f64::from(width)).max(2.6 / f64::from(height)) / self.zoom;
        View { width, height, centre_x, centre_y, pixel, iterations }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Options { picture, place } = Options::parse();
    distribution_examples::run(place, || MandelbrotServer::new(Painter), async |master| paint(master, &picture).await)
        .await
}

/// Paints the tiles on the nodes, puts them together, and writes the file.
async fn paint(master: &Master, picture: &Picture) -> Result<(), Box<dyn Error>> {
    let view = picture.view();
    let tiles = tiles(view, picture.tile);
    let mandelbrot = MandelbrotClient::new(master);
    let started = Instant::now();
    let mut shades = vec![0.0; view.width as usize * view.height as usize];
    // The key of each call is its tile, so that results can be used in any order.
    let calls = tiles.iter().map(|tile| (tile, mandelbrot.tile(view, *tile)));
    let mut painted = calls.distribute().name("mandelbrot").unordered().progress();
    while let Some((tile, pixels)) = painted.next().await {
        let pixels = pixels?;
        let rows = shades.chunks_exact_mut(view.width as usize).skip(tile.top as usize);
        for (row, line) in rows.zip(pixels.chunks_exact(tile.width as usize)) {
            row[tile.left as usize..][..line.len()].copy_from_slice(line);
        }
    }
    let elapsed = started.elapsed();
    write(&picture.output, view, &shades)
        .map_err(|error| format!("cannot write {}: {error}; --output names another file", picture.output.display()))?;
    println!(
        "Wrote {}: {} x {} pixels in {} over {} in {}",
        picture.output.display(),
        view.width,
        view.height,
        counted(tiles.len() as u64, "tile"),
        nodes_of(master),
        milliseconds(elapsed)
    );
    Ok(())
}

/// Squares of this size that cover the picture, each pixel once.
fn tiles(view: View, size: u32) -> Vec<Tile> {
    let starts = |end: u32| (0..end).step_by(size as usize);
    starts(view.height)
        .flat_map(|top| starts(view.width).map(move |left| (left, top)))
        .map(|(left, top)| Tile { left, top, width: size.min(view.width - left), height: size.min(view.height - top) })
        .collect()
}

/// Writes the picture with a palette, which takes a third of the space of full colours.
fn write(path: &Path, view: View, shades: &[f32]) -> Result<(), png::EncodingError> {
    // The nearer to the set, the higher even the lowest value: the colours are spread over the values that occur.
    let least = shades.iter().copied().fold(1.0, f32::min);
    let range = (1.0 - least).max(f32::EPSILON);
    let colours: Vec<u8> = shades.iter().map(|shade| 255 - ((1.0 - shade) / range * 255.0).round() as u8).collect();
    let mut encoder = png::Encoder::new(File::create(path)?, view.width, view.height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette());
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&colours)?;
    writer.finish()
}

/// 256 colours, from the outside to the set, three bytes each. No colour appears twice, so that a mean lies between its two
/// colours.
fn palette() -> Vec<u8> {
    /// Positions of the colours, from 0 to 1.
    const STOPS: [(f64, [f64; 3]); 7] = [
        (0.0, [10.0, 14.0, 52.0]),
        (0.1, [24.0, 66.0, 138.0]),
        (0.22, [74.0, 166.0, 214.0]),
        (0.36, [244.0, 250.0, 236.0]),
        (0.54, [252.0, 188.0, 64.0]),
        (0.76, [178.0, 54.0, 28.0]),
        (1.0, [10.0, 4.0, 12.0]),
    ];
    let colour = |place: f64| {
        let next = STOPS.iter().position(|(stop, _)| *stop >= place).unwrap_or(STOPS.len() - 1).max(1);
        let ((before, from), (after, to)) = (STOPS[next - 1], STOPS[next]);
        let part = (place - before) / (after - before);
        [0, 1, 2].map(|channel| (from[channel] + (to[channel] - from[channel]) * part).round() as u8)
    };
    (0..=255).flat_map(|index| colour(f64::from(index) / 255.0)).collect()
}
