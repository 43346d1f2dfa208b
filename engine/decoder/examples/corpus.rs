//! Writes the fuzz target's first inputs into a folder: `cargo run --example corpus corpus/decode`.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("the folder is the one argument"));
    std::fs::create_dir_all(&folder)?;
    for (number, input) in thalweg_decoder::fuzzing::first_inputs(2000).enumerate() {
        std::fs::write(folder.join(format!("first-{number:04}")), input)?;
    }
    Ok(())
}
