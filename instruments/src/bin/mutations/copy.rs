//! A copy of the library to plant faults in, and what is run there to find them.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{CORE, faults::Fault, functions::Functions};

/// A fault may keep the core busy without end. Sound, the tests take a second or two.
const TESTS_TAKE: Duration = Duration::from_secs(120);
const SIMULATION_TAKES: Duration = Duration::from_secs(900);

/// Letters of what a program said that are shown.
const LINE: usize = 200;

/// Members of the workspace that the copy has.
const KEPT: [&str; 2] = ["distribution", "distribution-macros"];

/// A workspace with nothing but the library and `simulate`.
#[derive(Debug)]
pub(crate) struct Copy {
    root: PathBuf,
}

#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) is_sound: bool,
    /// What shows it, in a line.
    pub(crate) said: String,
}

impl Copy {
    pub(crate) fn lay_out(workspace: &Path) -> io::Result<Self> {
        let root = workspace.join("target/mutations");
        for folder in KEPT {
            copy_folder(&workspace.join(folder), &root.join(folder))?;
        }
        let manifest = with_members(&fs::read_to_string(workspace.join("Cargo.toml"))?)?;
        write_if_changed(&root.join("Cargo.toml"), &manifest)?;
        fs::copy(workspace.join("Cargo.lock"), root.join("Cargo.lock"))?;
        let simulate = root.join("simulate");
        fs::create_dir_all(simulate.join("src"))?;
        // The core has nothing to do with TLS, which takes long to build.
        let manifest = "[package]\nname = \"simulate\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n\
            clap.workspace = true\nrayon.workspace = true\n\
            distribution = { path = \"../distribution\", default-features = false, features = [\"simulation\"] }\n";
        write_if_changed(&simulate.join("Cargo.toml"), manifest)?;
        let source = fs::read_to_string(workspace.join("instruments/src/bin/simulate.rs"))?;
        write_if_changed(&simulate.join("src/main.rs"), &source)?;
        Ok(Self { root })
    }

    /// Looks at the copy while it has a fault.
    pub(crate) fn with(&self, fault: &Fault, look: impl Fn() -> io::Result<Finding>) -> io::Result<Finding> {
        let planted = Functions::read(&self.root.join(CORE))?
            .plant(fault)
            .map_err(|why| io::Error::other(format!("{}: {why}", fault.what)))?;
        let sound = fs::read_to_string(&planted.file)?;
        fs::write(&planted.file, planted.text)?;
        let finding = look().map_err(|error| io::Error::other(format!("{}: {error}", fault.what)));
        fs::write(&planted.file, sound)?;
        finding
    }

    /// Runs the core's tests, unoptimized.
    pub(crate) fn test(&self) -> io::Result<Finding> {
        let build =
            ["test", "--no-run", "-p", "distribution", "--lib", "--no-default-features", "--features", "simulation"];
        let program = self.build(&build)?;
        let (status, output) = self.run(&program, &["core::"], TESTS_TAKE)?;
        let failed: Vec<&str> = output
            .lines()
            .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
            .map(|name| name.trim_start_matches("core::tests::"))
            .collect();
        let result = output.lines().find(|line| line.starts_with("test result: "));
        let said = match (failed.split_first(), status) {
            (_, None) => format!("no end within {TESTS_TAKE:?}"),
            (Some((first, [])), _) => (*first).to_owned(),
            (Some((first, others)), _) => format!("{first} and {} others", others.len()),
            (None, Some(status)) => result.map_or_else(|| status.to_string(), str::to_owned),
        };
        Ok(Finding { is_sound: status.is_some_and(|status| status.success()), said })
    }

    pub(crate) fn simulate(&self, seeds: u64) -> io::Result<Finding> {
        let program = self.build(&["build", "--release", "-p", "simulate"])?;
        let (status, output) = self.run(&program, &["--seeds", &seeds.to_string()], SIMULATION_TAKES)?;
        // A fault may also show as a panic of the core.
        let first = output.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let said = if status.is_some() {
            first.chars().take(LINE).collect()
        } else {
            format!("no end within {SIMULATION_TAKES:?}")
        };
        Ok(Finding { is_sound: status.is_some_and(|status| status.success()), said })
    }

    /// Builds a program and says where it is.
    fn build(&self, arguments: &[&str]) -> io::Result<PathBuf> {
        let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let built = Command::new(cargo)
            .args(arguments)
            .args(["--quiet", "--message-format", "json-render-diagnostics"])
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .env("RUSTFLAGS", "-Awarnings")
            .stderr(Stdio::inherit())
            .output()?;
        if !built.status.success() {
            return Err(io::Error::other("does not build"));
        }
        let text = String::from_utf8_lossy(&built.stdout).into_owned();
        let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let program = messages.filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?))).next_back();
        program.ok_or_else(|| io::Error::other("nothing was built that can be run"))
    }

    /// Runs a program, and gives back what it printed; `None` for its end if it came to none in time.
    fn run(&self, program: &Path, arguments: &[&str], takes: Duration) -> io::Result<(Option<ExitStatus>, String)> {
        // Into a file, which never fills up as a pipe does.
        let path = self.root.join("output");
        let output = File::create(&path)?;
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(self.root.join("distribution"))
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output)
            .spawn()?;
        let started = Instant::now();
        let status = loop {
            match child.try_wait()? {
                Some(status) => break Some(status),
                // The standard library can wait for a child or look at it, but not wait with a limit.
                None if started.elapsed() < takes => thread::sleep(Duration::from_millis(20)),
                None => {
                    child.kill()?;
                    child.wait()?;
                    break None;
                }
            }
        };
        Ok((status, String::from_utf8_lossy(&fs::read(&path)?).into_owned()))
    }
}

/// The workspace's manifest, without the members that the copy has not.
fn with_members(manifest: &str) -> io::Result<String> {
    let manifest = with_list(manifest, "members", &[&KEPT[..], &["simulate"]].concat())?;
    with_list(&manifest, "default-members", &KEPT)
}

/// A manifest in which the list of this name has these entries.
fn with_list(manifest: &str, name: &str, entries: &[&str]) -> io::Result<String> {
    let unknown = || io::Error::other(format!("the workspace's manifest has no list of {name}"));
    let start = manifest.find(&format!("\n{name} =")).ok_or_else(unknown)?;
    let open = manifest[start..].find('[').ok_or_else(unknown)? + start;
    let close = manifest[open..].find(']').ok_or_else(unknown)? + open;
    let entries: Vec<String> = entries.iter().map(|entry| format!("\"{entry}\"")).collect();
    Ok(format!("{}{}{}", &manifest[..=open], entries.join(", "), &manifest[close..]))
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    // What is gone there would be in the way here.
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !from.join(entry.file_name()).exists() {
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            write_if_changed(&target, &fs::read_to_string(entry.path())?)?;
        }
    }
    Ok(())
}

/// Leaves the time of a file alone that is as it should be, so that it is not built anew.
fn write_if_changed(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) { Ok(()) } else { fs::write(path, text) }
}
