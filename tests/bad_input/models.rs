//! Files of models, and pairs of model and data set.

use super::worlds::{CLEVR, GQA, MCAN, VQA, untrained};
use super::{Row, bytes, check};

pub(super) const BUTD: &str =
    "MODEL_USE: butd\nFLAT_OUT_SIZE: 32\nCLASSIFER_DROPOUT_R: 0\nOPT: Adamax\n";
pub(super) const BAN: &str =
    "MODEL_USE: ban\nFLAT_OUT_SIZE: 32\nGLIMPSE: 2\nCLASSIFER_DROPOUT_R: 0\nOPT: Adamax\n";
pub(super) const MFB: &str = "MODEL_USE: mfb\nMFB_O: 8\nLSTM_OUT_SIZE: 16\nLOSS_FUNC: kld\n";
pub(super) const MMNASNET: &str = "MODEL_USE: mmnasnet\nFLAT_OUT_SIZE: 32\nMULTI_HEAD: 2\nFLAT_MLP_SIZE: 16\n\
                                   REL_HBASE: 8\nREL_SIZE: 8\nARCH: {enc: [SA, FFN], dec: [GA, RSA, FFN]}\n";
/// OpenVQA's MCAN for VQA-v2.
pub(super) const VQA_MCAN: &str =
    "MODEL_USE: mcan\nLAYER: 1\nFF_SIZE: 32\nMULTI_HEAD: 2\nFLAT_MLP_SIZE: 16\n";

const TRAIN: [&str; 5] = [
    "--RUN=train",
    "--SPLIT=train",
    "--VERSION=v",
    "--OVERWRITE=True",
    "--MAX_EPOCH=1",
];

/// The small model of a family with one key of this value.
fn with(what: &'static str, model: &str, line: &str, says: &'static [&'static str]) -> Row {
    let key = line.split(':').next().unwrap();
    let others = ["HIDDEN_SIZE: 16", "BATCH_SIZE: 16"].into_iter();
    let others = others.chain(model.lines());
    let kept: Vec<&str> = others.filter(|other| !other.starts_with(key)).collect();
    bytes(what, format!("{}\n{line}\n", kept.join("\n")), says)
}

#[test]
fn model_files() {
    let sizes = &["vqa: FRCN_FEAT_SIZE must be a list of two whole numbers"];
    let rows = [
        (
            "unknown family",
            "MODEL_USE: transformer",
            &["there is no such family of models, only mcan, butd"],
        ),
        (
            "wrong type: a list for the family",
            "MODEL_USE: [mcan]",
            &["MODEL_USE = [\"mcan\"]"],
        ),
        (
            "a loss of another data set",
            "LOSS_FUNC: ce",
            &["vqa has no targets for it"],
        ),
        (
            "unknown loss",
            "LOSS_FUNC: hinge",
            &["it must be one of '', bce, ce, kld"],
        ),
        (
            "a reduction that never worked",
            "LOSS_REDUCTION: none",
            &["it must be one of sum, mean"],
        ),
        (
            "an older name of a reduction",
            "LOSS_REDUCTION: elementwise_mean",
            &["it must be one of sum, mean"],
        ),
        (
            "an optimizer that is not known here",
            "OPT: SGD",
            &["OPT = SGD cannot be used: it must be one of '', Adam, Adamax"],
        ),
        (
            "unknown optimizer",
            "OPT: Adamm",
            &["it must be one of '', Adam, Adamax"],
        ),
        (
            "an argument that the optimizer lacks",
            "OPT_PARAMS: {momentum: '0.9'}",
            &["momentum is not known, only betas and eps"],
        ),
        (
            "wrong shape: one beta",
            "OPT_PARAMS: {betas: '0.9'}",
            &["betas = \"0.9\" is not a pair of numbers"],
        ),
        (
            "an argument that is a program",
            "OPT_PARAMS: {eps: '__import__(\"os\")'}",
            &["is not a number"],
        ),
        (
            "wrong type: eps is text",
            "OPT_PARAMS: {eps: small}",
            &["eps = \"small\" is not a number"],
        ),
        (
            "negative eps",
            "OPT_PARAMS: {eps: '-1'}",
            &["OPT_PARAMS: OPT_EPS = -1: it must be positive"],
        ),
        (
            "wrong type: sizes are a list",
            "FEAT_SIZE: [100, 2048]",
            &["it has a list where an object is expected"],
        ),
        (
            "wrong shape: one number for a size",
            "FEAT_SIZE: {vqa: {FRCN_FEAT_SIZE: [2048]}}",
            sizes,
        ),
        (
            "wrong shape: three numbers for a size",
            "FEAT_SIZE: {vqa: {FRCN_FEAT_SIZE: [1, 100, 2048]}}",
            sizes,
        ),
        (
            "wrong type: a size is text",
            "FEAT_SIZE: {vqa: {FRCN_FEAT_SIZE: [many, 2048]}}",
            sizes,
        ),
        (
            "negative size",
            "FEAT_SIZE: {vqa: {FRCN_FEAT_SIZE: [-100, 2048]}}",
            sizes,
        ),
        (
            "no regions",
            "FEAT_SIZE: {vqa: {FRCN_FEAT_SIZE: [0, 2048]}}",
            sizes,
        ),
        (
            "no values",
            "FEAT_SIZE: {vqa: {FRCN_FEAT_SIZE: [100, 0]}}",
            sizes,
        ),
        (
            "absurd size: 10^15 regions",
            "FEAT_SIZE: {vqa: {FRCN_FEAT_SIZE: [1000000000000000, 2048]}}",
            sizes,
        ),
        (
            "absurd size: 10^15 values",
            "FEAT_SIZE: {vqa: {FRCN_FEAT_SIZE: [100, 1000000000000000]}}",
            sizes,
        ),
        (
            "unknown kind of size",
            "FEAT_SIZE: {vqa: {FRNC_FEAT_SIZE: [100, 2048]}}",
            &["vqa: there is no FRNC_FEAT_SIZE, only FRCN_FEAT_SIZE"],
        ),
        (
            "unknown data set of a size",
            "FEAT_SIZE: {vqaa: {FRCN_FEAT_SIZE: [100, 2048]}}",
            &["FEAT_SIZE: DATASET = vqaa: there is no such data set"],
        ),
        (
            "a grid on regions",
            "USE_AUX_FEAT: true",
            &["does not fit --DATASET=vqa: USE_AUX_FEAT = True"],
        ),
        (
            "negative warm-up",
            "WARMUP_EPOCH: -1",
            &["WARMUP_EPOCH = -1 cannot be used"],
        ),
        (
            "absurd size: warm-up",
            "WARMUP_EPOCH: 18446744073709551615",
            &["it must be at most 1000000"],
        ),
        (
            "negative decay",
            "LR_DECAY_R: -0.2",
            &["LR_DECAY_R = -0.2: it must be positive"],
        ),
        (
            "a key of another family",
            "GLIMPSE: 2",
            &["unknown key \"GLIMPSE\""],
        ),
        (
            "heads that do not divide the width",
            "MULTI_HEAD: 3",
            &["HIDDEN_SIZE = 16 is not divisible by MULTI_HEAD = 3"],
        ),
        (
            "missing layers",
            "LAYER: 0",
            &["LAYER = 0: it must be from 1"],
        ),
    ];
    let rows = rows.map(|(what, line, says)| with(what, VQA_MCAN, line, says));
    let flags = [&VQA[..], &TRAIN].concat();
    check(
        &untrained("vqa", VQA_MCAN),
        "model of OpenVQA",
        "model.yml",
        &flags,
        rows.into(),
    );
}

#[test]
fn sizes_of_the_families() {
    let rows = [
        (
            "BAN: a rank that is no K_TIMES of the width",
            BAN,
            "BA_HIDDEN_SIZE: 3072",
            &["it must be K_TIMES = 3 times HIDDEN_SIZE = 16; leave it out"],
        ),
        (
            "BAN: missing glimpses",
            BAN,
            "GLIMPSE: 0",
            &["GLIMPSE = 0: it must be from 1"],
        ),
        (
            "BAN: a grid beside regions",
            BAN,
            "USE_AUX_FEAT: true",
            &["BAN reads regions or a grid, not both"],
        ),
        (
            "BAN: boxes on vqa",
            BAN,
            "USE_BBOX_FEAT: true",
            &["does not fit --DATASET=vqa: USE_BBOX_FEAT = True"],
        ),
        (
            "BAN: another width of features",
            BAN,
            "IMG_FEAT_SIZE: 100",
            &["whose width is 2048; leave the key out"],
        ),
        (
            "BAN: absurd size",
            BAN,
            "K_TIMES: 1000000000000000",
            &["K_TIMES = 1000000000000000: it must be from 1"],
        ),
        (
            "BUTD: another width of features",
            BUTD,
            "IMG_FEAT_SIZE: 100",
            &["whose width is 2048; leave the key out"],
        ),
        (
            "BUTD: dropout of 1",
            BUTD,
            "CLASSIFER_DROPOUT_R: 1",
            &["CLASSIFER_DROPOUT_R = 1: it must be in [0, 1)"],
        ),
        (
            "BUTD: the right spelling of a key",
            BUTD,
            "CLASSIFIER_DROPOUT_R: 0.5",
            &["unknown key \"CLASSIFIER_DROPOUT_R\""],
        ),
        (
            "MFB: missing glimpses",
            MFB,
            "I_GLIMPSES: 0",
            &["I_GLIMPSES = 0: it must be from 1"],
        ),
        (
            "MFB: absurd size",
            MFB,
            "MFB_O: 1000000000000000",
            &["MFB_O = 1000000000000000: it must be from 1"],
        ),
        (
            "MFB: wrong type of HIGH_ORDER",
            MFB,
            "HIGH_ORDER: 2",
            &["it has the number 2 where a boolean is expected"],
        ),
        (
            "MMNasNet: heads that do not divide the width",
            MMNASNET,
            "MULTI_HEAD: 3",
            &["not divisible by MULTI_HEAD = 3"],
        ),
        (
            "MMNasNet: relations that do not divide the width",
            MMNASNET,
            "REL_HBASE: 7",
            &["not divisible by REL_HBASE = 7"],
        ),
        (
            "MMNasNet: unknown block",
            MMNASNET,
            "ARCH: {enc: [SA], dec: [GA, XYZ]}",
            &["`XYZ`, expected one of `SA`, `RSA`, `GA`, `FFN`"],
        ),
        (
            "MMNasNet: a guided block in the encoder",
            MMNASNET,
            "ARCH: {enc: [GA], dec: [GA]}",
            &["RSA and GA are for the decoder"],
        ),
        (
            "MMNasNet: missing decoder",
            MMNASNET,
            "ARCH: {enc: [SA]}",
            &["missing field `dec`"],
        ),
        (
            "MMNasNet: a third part",
            MMNASNET,
            "ARCH: {enc: [SA], dec: [GA], mid: [SA]}",
            &["unknown field `mid`, expected `enc` or `dec`"],
        ),
        (
            "MMNasNet: wrong type of ARCH",
            MMNASNET,
            "ARCH: SA",
            &["where {enc: [blocks], dec: [blocks]} is expected"],
        ),
        (
            "MMNasNet: boxes as features",
            MMNASNET,
            "USE_BBOX_FEAT: true",
            &["their boxes as relations only"],
        ),
    ];
    let rows = rows.map(|(what, model, line, says)| with(what, model, line, says));
    let flags = [&VQA[..], &TRAIN].concat();
    check(
        &untrained("vqa", VQA_MCAN),
        "sizes of a family",
        "model.yml",
        &flags,
        rows.into(),
    );
}

/// Models that OpenVQA crashes with: the message names the model and the data sets that it can have.
#[test]
fn pairs_of_model_and_data_set() {
    for (set, kind, flags) in [
        ("gqa", "model that GQA cannot have", GQA),
        ("clevr", "model that CLEVR cannot have", CLEVR),
    ] {
        let mfb = MFB.replace("LOSS_FUNC: kld\n", "");
        let rows = vec![
            with(
                "MFB",
                &mfb,
                "HIGH_ORDER: false",
                &["MFB and MFH read the regions of a data set without a grid, such as vqa"],
            ),
            with(
                "MFH",
                &mfb,
                "HIGH_ORDER: true",
                &["for gqa and clevr use another model (--MODEL=mcan_small)"],
            ),
            with(
                "MMNasNet",
                MMNASNET,
                "DROPOUT_R: 0",
                &["MMNasNet reads regions with boxes, of a data set without a grid, such as vqa"],
            ),
            with(
                "a loss of VQA-v2",
                VQA_MCAN,
                "LOSS_FUNC: bce",
                &["has no targets for it"],
            ),
            with(
                "a divergence",
                VQA_MCAN,
                "LOSS_FUNC: kld",
                &["has no targets for it"],
            ),
            with(
                "BUTD with a grid",
                BUTD,
                "USE_AUX_FEAT: true",
                &["BUTD reads regions or a grid, not both"],
            ),
            with(
                "BUTD: another width of features",
                BUTD,
                "IMG_FEAT_SIZE: 2048",
                &["image features of width HIDDEN_SIZE, whose width is 16"],
            ),
        ];
        let flags = [&flags[..], &TRAIN].concat();
        check(&untrained(set, MCAN), kind, "model.yml", &flags, rows);
    }
}

/// What looks wrong and is not: an architecture without relations, whose layer then has no gradient, and warm-ups that
/// OpenVQA accepts.
#[test]
fn odd_models_that_train() {
    for (model, says) in [
        (MMNASNET.replace("RSA, ", ""), ""),
        (
            format!("{VQA_MCAN}WARMUP_EPOCH: 0\n"),
            "WARMUP_EPOCH = 0: as in OpenVQA, the learning rate rises to 3 times LR_BASE",
        ),
        (
            format!("{VQA_MCAN}WARMUP_EPOCH: 1\n"),
            "WARMUP_EPOCH = 1: as in OpenVQA, the learning rate rises to 1.5 times LR_BASE",
        ),
    ] {
        let world = untrained("vqa", &model);
        let place = format!("--CFG={}/model.yml", world.root.display());
        let output = world.run(&[&[place.as_str(), "--EVAL_EE=False"], &TRAIN[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.contains(says),
            "{model}: {said}"
        );
    }
}
