//! `compress`: the same numbers in every format, and every row of the input in its place.

use embedding_compressor::backend::Cpu;

use super::*;

#[test]
fn every_format_holds_the_vectors_of_the_library() {
    let folder = Folder::with_model();
    let compressor = folder.model(MODEL);
    let expected = compressor.compress(&Cpu::new(), &folder.embeddings("x.npy").values).unwrap();
    for output in OUTPUTS {
        std::fs::write(folder.path(output), "an older content").unwrap();
        let run = folder.succeeds(&format!("compress --input x.npy --output {output}"));
        assert_eq!(run.stdout, "", "{run}");
        assert!(run.stderr.contains(compressor.map.metric.advice()), "{run}");
        let z = folder.embeddings(output);
        assert_eq!((z.rows, z.dim), (ROWS, 4), "{output}");
        assert!(z.values == expected, "{output} holds other numbers");
    }
}

#[test]
fn rows_of_zeros_stay_zeros_in_any_block() {
    let folder = Folder::empty();
    folder.write("x.npy", &rows::cloud(ROWS, 8, 1), 8);
    folder.succeeds(TRAIN);
    // More rows than are encoded at once.
    let mut values = rows::cloud(70_000, 8, 1);
    folder.write("many.npy", &values, 8);
    let zeros = [66_000, 69_999];
    zeros.iter().for_each(|row| values[row * 8..][..8].fill(0.0));
    folder.write("gaps.npy", &values, 8);
    let run = folder.succeeds("compress --input many.npy --output many_z.npy");
    assert!(!run.stderr.contains("warning"), "{run}");
    let run = folder.succeeds("compress --input gaps.npy --output gaps_z.npy");
    assert!(run.stderr.contains("warning: 2 rows of zeros") && run.stderr.contains("row 66000"), "{run}");
    let (many, gaps) = (folder.embeddings("many_z.npy"), folder.embeddings("gaps_z.npy"));
    for row in 0..70_000 {
        let expected = if zeros.contains(&row) { &[0.0; 4] } else { many.row(row) };
        assert_eq!(gaps.row(row), expected, "row {row}");
        assert!(row >= ROWS || many.row(row) != [0.0; 4], "row {row}");
    }
}

#[test]
fn rows_of_zeros_are_rows_as_others_where_lengths_count() {
    let folder = Folder::empty();
    let mut values = rows::cloud(ROWS, 8, 1);
    values[8 * 7..][..8].fill(0.0);
    folder.write("x.npy", &values, 8);
    for (metric, part) in [("dot", "search these vectors with"), ("l2", "with Euclidean (L2) distance; do not normalise them")] {
        folder.succeeds(&format!("{TRAIN} --metric {metric}"));
        let run = folder.succeeds("compress --input x.npy --output z.npy");
        assert!(!run.stderr.contains("warning") && run.stderr.contains(part), "{run}");
        let compressor = folder.model(MODEL);
        assert!(folder.embeddings("z.npy").values == compressor.compress(&Cpu::new(), &values).unwrap());
        assert_eq!(folder.embeddings("z.npy").row(7), compressor.map.bias, "W 0 + b");
        folder.succeeds("eval --input x.npy");
    }
    folder.fails(TRAIN, 3, &["zeros", "x.npy", "row 7", "--metric"]);
}

#[test]
fn what_is_compressed_already_is_not_compressed_again() {
    let folder = Folder::with_model();
    folder.succeeds("compress --input x.npy --output z.npy");
    folder.fails("compress --input z.npy --output again.npy", 3, &["expects 16 dimensions", "has 4", "compressed already"]);
}
