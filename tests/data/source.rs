use clap::Parser;
use clap::error::ErrorKind;
use embedding_compressor::data::DEFAULT_DATASET;

use super::*;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    source: Source,
}

fn parse(flags: &str) -> Result<Source, clap::Error> {
    Command::try_parse_from(flags.split(' ')).map(|command| command.source)
}

#[test]
fn files_and_a_dataset_exclude_each_other() {
    for flag in ["--hf-dataset me/vectors", "--hf-revision main", "--hf-parquet-file train.parquet"] {
        let error = parse(&format!("x --input a.parquet {flag}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{flag}: {error}");
        parse(&format!("x {flag}")).unwrap();
    }
    let files = parse("x --input a.parquet b.parquet --hf-embedding-column dense").unwrap();
    assert_eq!((files.input.len(), files.hf_dataset.as_str()), (2, DEFAULT_DATASET));
}
