//! How text looks on standard output: with colours or without, and how wide.

use std::{fmt::Display, io};

use anstream::AutoStream;
use clap::ValueEnum;
use comfy_table::Table;
use crossterm::style::{Color, Stylize, force_color_output, style};

/// When to use colours.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Also into a file or pipe.
    Always,
    /// Not at all.
    Never,
}

/// What a text says of a state, and so its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Attention,
    Bad,
}

impl Tone {
    pub(crate) fn color(self) -> Color {
        match self {
            Self::Good => Color::Green,
            Self::Attention => Color::Yellow,
            Self::Bad => Color::Red,
        }
    }
}

/// How text looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) is_coloured: bool,
    /// Columns of the terminal; `None` if standard output is not a terminal.
    pub(crate) width: Option<u16>,
}

impl Look {
    pub(crate) fn of_stdout(when: When) -> Self {
        let is_coloured = match when {
            When::Auto => AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never,
            When::Always => true,
            When::Never => false,
        };
        // It was decided above, from the same variables and the option.
        force_color_output(is_coloured);
        Self { is_coloured, width: Table::new().width() }
    }

    /// The same for the width that the terminal has now.
    pub(crate) fn measured(self) -> Self {
        Self { width: Table::new().width(), ..self }
    }

    /// The text in the colour of this tone.
    pub(crate) fn paint(self, text: impl Display, tone: Option<Tone>) -> String {
        match tone.filter(|_| self.is_coloured) {
            Some(tone) => style(text).with(tone.color()).to_string(),
            None => text.to_string(),
        }
    }
}
