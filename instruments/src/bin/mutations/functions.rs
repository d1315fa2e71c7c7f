//! The core's functions, by name, whichever file each is in; and a fault planted in one.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use quote::ToTokens;
use syn::{Attribute, ImplItem, Item, Type};

use super::{
    faults::Fault,
    pattern::{Names, Token, filled, find, tokens},
};

/// All functions of the core but those of its tests.
#[derive(Debug)]
pub(crate) struct Functions {
    files: Vec<(PathBuf, String)>,
    functions: Vec<Function>,
}

#[derive(Debug)]
struct Function {
    /// `Type::function`, or `function`.
    name: String,
    /// Its file's place among all.
    file: usize,
    tokens: Vec<Token>,
}

/// A file with a fault.
#[derive(Debug)]
pub(crate) struct Planted {
    pub(crate) file: PathBuf,
    pub(crate) text: String,
}

impl Functions {
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let mut this = Self { files: Vec::new(), functions: Vec::new() };
        this.read_folder(folder)?;
        Ok(this)
    }

    fn read_folder(&mut self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.ends_with("tests") || path.ends_with("tests.rs") {
                continue;
            }
            if path.is_dir() {
                self.read_folder(&path)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path)?;
                let parsed =
                    syn::parse_file(&text).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
                self.read_items(parsed.items, self.files.len());
                self.files.push((path, text));
            }
        }
        Ok(())
    }

    fn read_items(&mut self, items: Vec<Item>, file: usize) {
        for item in items {
            match item {
                Item::Fn(function) => {
                    let tokens = tokens(function.to_token_stream());
                    self.functions.push(Function { name: function.sig.ident.to_string(), file, tokens });
                }
                Item::Impl(block) => {
                    let Type::Path(of) = &*block.self_ty else { continue };
                    let Some(of) = of.path.segments.last() else { continue };
                    for item in &block.items {
                        if let ImplItem::Fn(function) = item {
                            let name = format!("{}::{}", of.ident, function.sig.ident);
                            self.functions.push(Function { name, file, tokens: tokens(function.to_token_stream()) });
                        }
                    }
                }
                Item::Mod(module) if !is_for_tests(&module.attrs) => {
                    self.read_items(module.content.map(|(_, items)| items).unwrap_or_default(), file);
                }
                _ => {}
            }
        }
    }

    /// The file in which a fault belongs, with the fault.
    ///
    /// # Errors
    ///
    /// Says what of the fault has no place, or more than one, and which places come near.
    pub(crate) fn plant(&self, fault: &Fault) -> Result<Planted, String> {
        let named: Vec<&Function> = self.functions.iter().filter(|function| function.name == fault.item).collect();
        let function = match named[..] {
            [function] => function,
            [] => return Err(format!("there is no function `{}`{}", fault.item, self.hint(fault))),
            _ => return Err(format!("there are {} functions `{}`", named.len(), fault.item)),
        };
        let (path, source) = &self.files[function.file];
        let mut names = Names::new();
        let mut edits: Vec<(Range<usize>, &str)> = Vec::new();
        for (pattern, text) in fault.edits {
            let found = find(&function.tokens, pattern, &names)?;
            let [(place, with)] = &found[..] else {
                let hint = if found.is_empty() { self.hint(fault) } else { String::new() };
                return Err(format!("`{pattern}` matches {} places in `{}`{hint}", found.len(), fault.item));
            };
            edits.push((place.clone(), text));
            names.clone_from(with);
        }
        // From the last to the first, so that places stay true.
        edits.sort_by_key(|(place, _)| std::cmp::Reverse(place.start));
        let mut text = source.clone();
        for (place, edit) in edits {
            text.replace_range(place, &filled(edit, &names));
        }
        Ok(Planted { file: path.clone(), text })
    }

    /// Functions in which each of a fault's patterns has a place.
    fn hint(&self, fault: &Fault) -> String {
        let matches = |function: &&Function| {
            let is_there = |(pattern, _): &(&str, _)| {
                find(&function.tokens, pattern, &Names::new()).is_ok_and(|found| found.len() == 1)
            };
            function.name != fault.item && fault.edits.iter().all(is_there)
        };
        let near: Vec<String> = self.functions.iter().filter(matches).map(|function| self.named(function)).collect();
        if near.is_empty() { String::new() } else { format!("; all of it has a place in {}", near.join(", ")) }
    }

    fn named(&self, function: &Function) -> String {
        let (path, _) = &self.files[function.file];
        format!("`{}` ({})", function.name, path.file_name().unwrap_or_default().to_string_lossy())
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.meta.to_token_stream().to_string().contains("test")
    })
}
