//! Flags: help, and what cannot work.

use super::*;

const COMMANDS: [&str; 6] = ["train", "eval", "sweep", "compress", "benchmark", "e2e_small"];

#[test]
fn help_ends_with_the_exit_codes() {
    let codes = "Exit codes: 0 ok, 1 bug, 2 usage, 3 bad data or model, 4 device or memory, 5 input/output";
    for command in COMMANDS {
        for flag in ["-h", "--help"] {
            let run = Folder::empty().succeeds(&format!("{command} {flag}"));
            let text = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.ends_with(codes) && run.stderr.is_empty(), "{command}: {run}");
        }
    }
}

#[test]
fn commands_share_their_flags() {
    let flags = |command: &str| -> Vec<String> {
        let help = Folder::empty().succeeds(&format!("{command} --help")).stdout;
        let flags = help.lines().map(str::trim).filter(|line| line.starts_with('-')).map(str::to_owned);
        flags.filter(|flag| !flag.starts_with("--dim-out")).collect()
    };
    let train = flags("train");
    for own in ["--model <FILE>", "--metrics-file <FILE.jsonl>", "--list-devices"] {
        assert!(train.iter().any(|flag| flag == own), "no {own} in {train:?}");
    }
    let sweep = flags("sweep");
    let missing: Vec<_> = train.iter().filter(|flag| !sweep.contains(flag)).collect();
    let own = ["--nested <M,M,..>", "--metrics-file <FILE.jsonl>", "--list-devices"];
    assert_eq!(missing, own, "training flags of sweep");
    let source: Vec<_> = train.iter().filter(|flag| flag.starts_with("--hf") || flag.starts_with("--input")).collect();
    for command in ["eval", "compress", "benchmark"] {
        let there = flags(command);
        assert!(source.iter().all(|flag| there.contains(flag)), "{command} has {there:?}");
    }
}

#[test]
fn every_command_prints_its_version() {
    for command in COMMANDS {
        let run = Folder::empty().succeeds(&format!("{command} --version"));
        assert!(run.stdout.trim_end().ends_with(env!("CARGO_PKG_VERSION")), "{run}");
    }
}

#[test]
fn devices_are_listed_one_a_line() {
    let run = Folder::empty().succeeds("train --list-devices");
    assert!(run.stdout.lines().last().is_some_and(|line| line.starts_with("cpu")), "{run}");
}

#[test]
fn flags_that_cannot_work_are_named() {
    let folder = Folder::with_model();
    for (command, part) in [
        ("train --frobnicate", "--frobnicate"),
        ("train --device tpu", "--device"),
        ("train --input x.npy --k 0", "--k must be from 1 to 1024"),
        ("train --input x.npy --k 1025", "--k must be from 1 to 1024"),
        ("train --input x.npy --k five", "--k"),
        ("train --input x.npy --dim-out 0", "--dim-out"),
        ("train --input x.npy --dim-out 16", "--dim-out must be below the data's 16"),
        ("train --input x.npy --dim-out 17", "--dim-out must be below the data's 16"),
        ("train --input x.npy --nested 4,0", "--nested must be different dimensions of at least 1"),
        ("train --input x.npy --nested 4,8,4", "--nested must be different dimensions"),
        ("train --input x.npy --nested 4,8 --dim-out 4", "--dim-out must be the largest of --nested, 8"),
        ("train --input x.npy --nested 4,16", "--dim-out must be below the data's 16"),
        ("train --input x.npy --nested 4,", "--nested"),
        ("train --input x.npy --batch-size 0", "--batch-size"),
        ("train --input x.npy --dropout 1", "--dropout must be at least 0 and below 1"),
        ("train --input x.npy --hidden=-1", "--hidden"),
        ("train --input x.npy --lr 0", "--lr"),
        ("train --input x.npy --lr nan", "--lr"),
        ("train --input x.npy --tau 0", "--tau"),
        ("train --input x.npy --tau inf", "--tau"),
        ("train --input x.npy --tau 1e-9", "--tau"),
        ("train --input x.npy --dim-out 4 --k 5 --batch-size 10 --epochs 4294967295", "--epochs"),
        ("train --input x.npy --model x.npy", "replace an input"),
        ("train --input *.npy --model x.npy", "replace an input"),
        ("train --input x.npy --metrics-file m.jsonl --model m.jsonl", "name the same file"),
        ("compress --input x.npy --output ./x.npy", "replace an input"),
        ("sweep --input x.npy --output x.npy", "replace an input"),
        ("train --input x.npy --tau hot", "--tau"),
        ("train --input x.npy --lambda-list 0 --lambda-hard 0", "--lambda-list"),
        ("train --input x.npy --lambda-list=-1", "--lambda-list"),
        ("train --input x.npy --student-tau 0", "--student-tau"),
        ("train --input x.npy --student-tau auto", "learnt"),
        ("train --input x.npy --lambda-hard nan", "--lambda-hard"),
        ("train --input x.npy --dim-out 4 --hard-neg-l 0", "--hard-neg-l"),
        ("train --input x.npy --dim-out 4 --hard-neg-l 1025", "--hard-neg-l"),
        ("train --input x.npy --dim-out 4 --hard-neg-per-anchor 0", "--hard-neg-per-anchor"),
        ("train --input x.npy --dim-out 4 --hard-neg-per-anchor 65", "--hard-neg-per-anchor"),
        ("train --input x.npy --init zeros", "--init"),
        ("train --input x.npy --metric manhattan", "--metric"),
        ("eval --input x.npy --metric dot", "--metric"),
        ("sweep --input x.npy --dim-outs 4,16", "must be below the data's 16"),
        ("sweep --input x.npy --dim-outs 4,0", "must be at least 1"),
        ("sweep --input x.npy --dim-outs 4,many", "--dim-outs"),
        ("sweep --input x.npy --dim-outs 4 --target recall@10", "quotation marks, with one of recall@1, recall@10"),
        ("sweep --input x.npy --dim-outs 4 --target recall@9>=0.5", "--target"),
        ("sweep --input x.npy --dim-outs 4,16 --target recall@1>=0.5", "must be below the data's 16"),
        ("sweep --input x.npy --dim-outs 4 --target recall@1>=0.5 --rows 100", "--rows"),
        ("sweep --input x.npy --dim-outs 4 --model m.npz", "--target"),
        ("sweep --input x.npy --target recall@1>=0.5 --model x.npy", "replace an input"),
        ("sweep --input x.npy --target recall@1>=0.5 --model m.npz --output m.npz", "name the same file"),
        ("sweep --input x.npy --dim-outs 4 --rows 100,9", "--rows must be at least 10"),
        (
            "sweep --input x.npy --dim-outs 4 --rows 100,241",
            "--rows 241 is more than there are: of 300 rows, 240 are for training",
        ),
        ("sweep --input x.npy --dim-outs 4 --metric l2 --baselines all", "use --baselines basic"),
        ("sweep --input x.npy --output-format csv", "--output-format"),
        ("eval --input x.npy --k 0", "--k"),
        ("eval --input x.npy --database val", "--database"),
        ("compress --input x.npy", "--output"),
        ("compress --input x.npy --output z.csv", "z.csv"),
    ] {
        folder.fails(command, 2, &[part]);
    }
}
