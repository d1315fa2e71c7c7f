//! What holds for all files of the repository, checked on their text: layers, circles, sizes, openings and words.

mod circles;
mod files;
mod layers;
mod modules;
mod words;
