//! The modules of a crate, read from its files, and which module names items of which other module.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use distribution_tests::sources::{short, text};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Item, Meta, UseTree, Visibility, spanned::Spanned};

/// A path in a module that names something of another file of the same crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    /// The module of the file with the path, from the crate's root: `["core", "queues"]`.
    pub(crate) from: Vec<String>,
    /// The module of the file that defines what is named.
    pub(crate) to: Vec<String>,
    /// Where the path is.
    pub(crate) at: String,
    /// Whether only tests are compiled with it.
    pub(crate) in_test: bool,
}

/// Gives a file's text, if there is such a file.
type Load<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// A crate's modules.
#[derive(Debug)]
pub(crate) struct Crate {
    modules: Vec<Module>,
}

#[derive(Debug, Default)]
struct Module {
    /// From the crate's root.
    path: Vec<String>,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    /// Where it is written, and the module that the file is: itself, or one around it.
    file: PathBuf,
    file_module: usize,
    in_test: bool,
    imports: Vec<Import>,
    /// The items defined here, with whether only tests are compiled with them.
    items: Vec<(TokenStream, bool)>,
    defined: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Import {
    path: Vec<String>,
    /// As what it is known here; `None` for all that the path has (`*`).
    name: Option<String>,
    is_public: bool,
    in_test: bool,
    line: usize,
}

impl Crate {
    /// Reads the crate with this root, `lib.rs` or `main.rs`.
    pub(crate) fn read(root: &Path) -> Self {
        Self::load(root, &|file| file.exists().then(|| text(file)))
    }

    fn load(root: &Path, load: Load<'_>) -> Self {
        let source = load(root).unwrap_or_else(|| panic!("no file {}", root.display()));
        let mut this = Self { modules: vec![Module { file: root.into(), ..Module::default() }] };
        this.read_file(0, &source, &root.with_file_name(""), load);
        this
    }

    fn read_file(&mut self, id: usize, source: &str, folder: &Path, load: Load<'_>) {
        let parsed = syn::parse_file(source);
        let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", self.modules[id].file.display()));
        self.read_items(id, parsed.items, folder, load);
    }

    /// Takes a module's items. The files of its modules are in this folder.
    fn read_items(&mut self, id: usize, items: Vec<Item>, folder: &Path, load: Load<'_>) {
        for item in items {
            let in_test = self.modules[id].in_test || is_for_tests(attributes(&item));
            match item {
                Item::Mod(module) => {
                    let name = module.ident.to_string();
                    let path: Vec<String> = self.modules[id].path.iter().cloned().chain([name.clone()]).collect();
                    let below = folder.join(&name);
                    let child = self.modules.len();
                    self.modules[id].children.insert(name.clone(), child);
                    let new = Module { path, parent: Some(id), in_test, ..Module::default() };
                    if let Some((_, items)) = module.content {
                        let Module { file, file_module, .. } = &self.modules[id];
                        self.modules.push(Module { file: file.clone(), file_module: *file_module, ..new });
                        self.read_items(child, items, &below, load);
                    } else {
                        let candidates = [folder.join(format!("{name}.rs")), below.join("mod.rs")];
                        let found = candidates.into_iter().find_map(|file| Some((load(&file)?, file)));
                        let (source, file) =
                            found.unwrap_or_else(|| panic!("no file of module {}", new.path.join("::")));
                        self.modules.push(Module { file, file_module: child, ..new });
                        self.read_file(child, &source, &below, load);
                    }
                }
                Item::Use(import) => {
                    let mut imports = Vec::new();
                    let is_public = !matches!(import.vis, Visibility::Inherited);
                    flatten(&import.tree, &mut Vec::new(), &mut |path, name, line| {
                        imports.push(Import { path, name, is_public, in_test, line });
                    });
                    self.modules[id].imports.extend(imports);
                }
                item => {
                    self.modules[id].defined.extend(name_of(&item));
                    self.modules[id].items.push((item.to_token_stream(), in_test));
                }
            }
        }
    }

    /// All paths that lead from one file to another. What a module only passes on from the modules in it does not
    /// count: that is what a `mod.rs` is for.
    pub(crate) fn references(&self) -> BTreeSet<Reference> {
        let mut found = BTreeSet::new();
        for (id, module) in self.modules.iter().enumerate() {
            for import in &module.imports {
                let Some((target, _)) = self.resolve(id, &import.path, 0) else { continue };
                if !(import.is_public && self.is_below(target, module.file_module)) {
                    self.add(id, target, import.line, import.in_test, &mut found);
                }
            }
            for (item, in_test) in &module.items {
                self.scan(id, item.clone(), &[], *in_test, &mut found);
            }
        }
        found
    }

    fn add(&self, from: usize, target: usize, line: usize, in_test: bool, found: &mut BTreeSet<Reference>) {
        let module = &self.modules[from];
        let [own, other] = [module.file_module, self.modules[target].file_module];
        if own != other {
            let [from, to] = [own, other].map(|id| self.modules[id].path.clone());
            found.insert(Reference { from, to, at: format!("{}:{line}", short(&module.file)), in_test });
        }
    }

    /// Finds the paths in tokens, those in the arguments of macros and in groups of imports (`prefix::{..}`) included.
    fn scan(
        &self,
        from: usize,
        tokens: TokenStream,
        prefix: &[String],
        in_test: bool,
        found: &mut BTreeSet<Reference>,
    ) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_colons = |at: usize| {
            let is_colon = |at| matches!(tokens.get(at), Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
            is_colon(at) && is_colon(at + 1)
        };
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                // `pub(in path)` imports nothing.
                TokenTree::Ident(word) if word == "pub" => at += 1 + usize::from(is_parentheses(tokens.get(at + 1))),
                TokenTree::Ident(word) => {
                    let line = word.span().start().line;
                    let is_member =
                        at > 0 && matches!(&tokens[at - 1], TokenTree::Punct(mark) if mark.as_char() == '.');
                    let mut path = prefix.to_vec();
                    path.push(word.to_string());
                    at += 1;
                    while is_colons(at) {
                        match tokens.get(at + 2) {
                            Some(TokenTree::Ident(word)) => path.push(word.to_string()),
                            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                                self.scan(from, group.stream(), &path, in_test, found);
                            }
                            _ => {}
                        }
                        at += 3;
                    }
                    if !is_member {
                        self.note(from, &path, line, in_test, found);
                    }
                }
                TokenTree::Group(group) => {
                    self.scan(from, group.stream(), &[], in_test, found);
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    /// Counts a path among an item's tokens, if it leads to another file.
    fn note(&self, from: usize, path: &[String], line: usize, in_test: bool, found: &mut BTreeSet<Reference>) {
        let module = &self.modules[from];
        let first = path[0].as_str();
        let import = module.imports.iter().find(|import| import.name.as_deref() == Some(first));
        let is_path = match first {
            "crate" | "self" | "super" => path.len() > 1,
            _ if module.children.contains_key(first) => path.len() > 1,
            // Other imports have been counted.
            _ => import.is_some_and(|import| import.is_public),
        };
        if is_path {
            if let Some((target, _)) = self.resolve(from, path, 0) {
                self.add(from, target, line, in_test, found);
            }
        }
    }

    /// The module that defines what a path names, or that it names; whether it is the module itself.
    fn resolve(&self, from: usize, path: &[String], depth: usize) -> Option<(usize, bool)> {
        // Modules that import all of each other.
        if depth > 16 {
            return None;
        }
        let (first, rest) = path.split_first()?;
        let mut module = match first.as_str() {
            "crate" => 0,
            "self" => from,
            "super" => self.modules[from].parent?,
            name => match self.member(from, name, depth)? {
                (module, true) => module,
                item => return Some(item),
            },
        };
        for name in rest {
            module = match name.as_str() {
                "super" => self.modules[module].parent?,
                "self" => module,
                name => match self.member(module, name, depth) {
                    Some((module, true)) => module,
                    Some(item) => return Some(item),
                    None => return Some((module, false)),
                },
            };
        }
        Some((module, true))
    }

    /// What a name is in a module: a module in it, an item of it, or what it imports.
    fn member(&self, module: usize, name: &str, depth: usize) -> Option<(usize, bool)> {
        let known = &self.modules[module];
        if let Some(child) = known.children.get(name) {
            return Some((*child, true));
        }
        if known.defined.contains(name) {
            return Some((module, false));
        }
        let named = known.imports.iter().find(|import| import.name.as_deref() == Some(name));
        // `use name::..` does not mean itself.
        let named = named.filter(|import| import.path[0] != name || known.children.contains_key(name));
        if let Some(import) = named {
            return self.resolve(module, &import.path, depth + 1);
        }
        let all = known.imports.iter().filter(|import| import.name.is_none());
        all.filter_map(|import| self.resolve(module, &import.path, depth + 1))
            .filter(|(other, is_module)| *is_module && *other != module)
            .find_map(|(other, _)| self.member(other, name, depth + 1))
    }

    fn is_below(&self, module: usize, above: usize) -> bool {
        self.modules[module].path.starts_with(&self.modules[above].path)
    }
}

fn is_parentheses(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis)
}

/// Calls back with each path of an import, the name it gets, and its line.
fn flatten(tree: &UseTree, prefix: &mut Vec<String>, found: &mut impl FnMut(Vec<String>, Option<String>, usize)) {
    let line = tree.span().start().line;
    let with = |name: &syn::Ident, prefix: &[String]| -> Vec<String> {
        // `path::{self}` names the path.
        let own = (name != "self" || prefix.is_empty()).then(|| name.to_string());
        prefix.iter().cloned().chain(own).collect()
    };
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            flatten(&path.tree, prefix, found);
            prefix.pop();
        }
        UseTree::Name(name) => {
            let path = with(&name.ident, prefix);
            let known = path.last().cloned();
            found(path, known, line);
        }
        UseTree::Rename(rename) => found(with(&rename.ident, prefix), Some(rename.rename.to_string()), line),
        UseTree::Glob(_) => found(prefix.clone(), None, line),
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, prefix, found);
            }
        }
    }
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(name.to_string())
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        matches!(&attribute.meta, Meta::List(list) if list.path.is_ident("cfg") && list.tokens.to_string() == "test")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `from -> to` of each reference in a crate of these files.
    fn references(files: &[(&str, &str)]) -> Vec<String> {
        let load = |path: &Path| {
            let found = files.iter().find(|(name, _)| path == Path::new(name));
            found.map(|(_, source)| (*source).to_owned())
        };
        let found = Crate::load(Path::new("lib.rs"), &load).references();
        let name = |path: &[String]| if path.is_empty() { "lib".to_owned() } else { path.join("::") };
        let mut found: Vec<String> = found
            .iter()
            .map(|found| {
                format!("{} -> {}{}", name(&found.from), name(&found.to), if found.in_test { " (test)" } else { "" })
            })
            .collect();
        found.dedup();
        found
    }

    const SHAPES: [(&str, &str); 3] = [
        ("shapes/mod.rs", "mod round; mod flat; pub use round::Circle; pub use flat::*; pub struct Point;"),
        ("shapes/round.rs", "pub struct Circle; pub fn area() {}"),
        ("shapes/flat.rs", "pub struct Square;"),
    ];

    fn with_user(user: &str) -> Vec<String> {
        let all = [&SHAPES[..], &[("lib.rs", "mod shapes; mod user;"), ("user.rs", user)]].concat();
        references(&all)
    }

    #[test]
    fn a_module_that_passes_on_what_is_in_it_does_not_lead_there() {
        assert_eq!(with_user(""), [""; 0]);
    }

    #[test]
    fn what_is_passed_on_leads_to_where_it_is_defined() {
        assert_eq!(with_user("use crate::shapes::Circle;"), ["user -> shapes::round"]);
        assert_eq!(with_user("use crate::shapes::Square;"), ["user -> shapes::flat"]);
        assert_eq!(with_user("use super::shapes::{Point as P};"), ["user -> shapes"]);
        assert_eq!(with_user("use crate::shapes; fn f() { shapes::Circle; }"), ["user -> shapes"]);
    }

    #[test]
    fn paths_count_in_groups_bodies_and_macros_and_not_in_comments_strings_and_visibilities() {
        assert_eq!(with_user("use crate::{shapes::{round::{self, area}}};"), ["user -> shapes::round"]);
        assert_eq!(with_user("fn f() { if crate::shapes::round::area() == () {} }"), ["user -> shapes::round"]);
        assert_eq!(
            with_user("fn f() { use crate::shapes::{Point, Circle}; }"),
            ["user -> shapes", "user -> shapes::round"]
        );
        assert_eq!(with_user("fn f() { matches!(super::shapes::Point, _) }"), ["user -> shapes"]);
        let nothing = "/// [`crate::shapes::Point`]\npub(in crate::shapes) fn f() { \"crate::shapes::Point\"; }";
        assert_eq!(with_user(nothing), [""; 0]);
    }

    #[test]
    fn what_only_tests_name_is_marked() {
        let user = "#[cfg(test)] mod tests { use super::*; use crate::shapes::Point; }";
        assert_eq!(with_user(user), ["user -> shapes (test)"]);
    }

    #[test]
    fn a_module_that_uses_what_it_passes_on_leads_there() {
        let files = [("lib.rs", "mod a; pub use a::A; struct B(A);"), ("a.rs", "pub struct A;")];
        assert_eq!(references(&files), ["lib -> a"]);
    }
}
