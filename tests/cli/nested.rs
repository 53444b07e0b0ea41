//! `--nested` and `--dim`: one model of several dimensions.

use embedding_compressor::backend::Cpu;
use embedding_compressor::data::AtomicFile;

use super::*;

const NESTED: &str = "train --input x.npy --nested 8,2,4 --k 5 --batch-size 64 --epochs 20";

#[test]
fn the_first_coordinates_are_what_dim_gives() {
    let folder = Folder::with_rows();
    for flags in ["--hidden 0", "--hidden 8"] {
        folder.succeeds(&format!("{NESTED} {flags}"));
        let compressor = folder.model(MODEL);
        assert_eq!((compressor.meta.dim_out, &compressor.meta.nested[..]), (8, &[2, 4, 8][..]));
        assert_eq!(compressor.meta.config.nested, [2, 4, 8]);
        for dim in [2, 4, 8] {
            let run = folder.succeeds(&format!("compress --input x.npy --output z.npy --dim {dim}"));
            assert!(run.stderr.contains(&format!("{ROWS} x {dim} from {ROWS} x {DIM}")), "{run}");
            let expected = compressor.map.prefix(dim).encode(&Cpu::new(), &folder.embeddings("x.npy").values).unwrap();
            assert_eq!(folder.embeddings("z.npy").values, expected, "--dim {dim}");
            let record = folder.record(&format!("eval --input x.npy --dim {dim}"));
            assert_eq!((&record["meta"]["dim_out"], &record["meta"]["bytes_out"]), (&dim.into(), &(4 * dim).into()));
            assert_eq!(record["meta"]["nested"], json("[2,4,8]"));
        }
        let whole = folder.embeddings("z.npy").values;
        folder.succeeds("compress --input x.npy --output z.npy");
        assert_eq!(folder.embeddings("z.npy").values, whole, "all of them is the default");
    }
}

#[test]
fn dimensions_that_are_not_there_are_refused() {
    let folder = Folder::with_rows();
    folder.succeeds(&format!("{NESTED} --hidden 0"));
    for dim in [0, 3, 9] {
        folder.fails(&format!("eval --input x.npy --dim {dim}"), 2, &[MODEL, "2, 4, 8"]);
        folder.fails(&format!("compress --input x.npy --output z.npy --dim {dim}"), 2, &[MODEL, "2, 4, 8"]);
    }
    folder.succeeds(TRAIN);
    folder.fails("compress --input x.npy --output z.npy --dim 2", 2, &["only of 4 dimensions", "--nested"]);
    folder.succeeds("compress --input x.npy --output z.npy --dim 4");
    assert_eq!(folder.record("eval --input x.npy")["meta"]["nested"], json("[]"));
}

#[test]
fn a_prefix_is_a_model() {
    let folder = Folder::with_rows();
    folder.succeeds(&format!("{NESTED} --hidden 0"));
    let short = folder.model(MODEL).prefix(4).unwrap();
    short.save(AtomicFile::create(&folder.path("short.npz")).unwrap()).unwrap();
    assert_eq!(folder.model("short.npz"), short);
    folder.succeeds("compress --input x.npy --output a.npy --dim 2");
    folder.succeeds("compress --input x.npy --output b.npy --dim 2 --model short.npz");
    assert_eq!(folder.embeddings("a.npy").values, folder.embeddings("b.npy").values);
}

#[test]
fn the_largest_alone_is_a_dedicated_model() {
    let folder = Folder::with_model();
    folder.succeeds("train --input x.npy --nested 4 --dim-out 4 --k 5 --batch-size 64 --epochs 20 --hidden 0 --model nested.npz");
    let (nested, dedicated) = (folder.model("nested.npz"), folder.model(MODEL));
    assert_eq!((nested.map, nested.meta.history), (dedicated.map, dedicated.meta.history));
}
