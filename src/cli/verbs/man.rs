use std::io::Write;
use std::process::ExitCode;

use fleet::{Error, ErrorKind, Stream};

use crate::cli::args::Manual;
use crate::cli::exit::{self, Refusal};
use crate::cli::manual::{self, Page};
use crate::cli::screen::Screen;

/// Writes the manual pages into a directory, or prints the first.
pub(crate) fn run(args: &Manual, screen: &Screen) -> Result<ExitCode, Refusal> {
    let cannot = |what: String| {
        move |error: std::io::Error| Refusal::from(Error::new(ErrorKind::LocalFile, what).caused_by(error))
    };
    let pages = manual::pages().map_err(cannot("cannot make the manual pages".to_owned()))?;
    let Some(dir) = &args.dir else {
        if let Some(Page { text, .. }) = pages.first() {
            // Whether somebody reads it is told by the code.
            let _ = screen.writer(Stream::Stdout).write_all(text);
        }
        return Ok(exit::of_listing(screen.is_closed()));
    };
    std::fs::create_dir_all(dir).map_err(cannot(format!("cannot make {}", dir.display())))?;
    for Page { file, text } in &pages {
        let path = dir.join(file);
        std::fs::write(&path, text).map_err(cannot(format!("cannot write {}", path.display())))?;
    }
    screen.say(&format!("{} manual pages are in {}", pages.len(), fleet::sink::escape(&dir.to_string_lossy())));
    Ok(ExitCode::from(exit::OK))
}
