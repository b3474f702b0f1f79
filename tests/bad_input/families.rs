//! Checkpoints of each family: damaged, or of another family than the model file says.

use super::checkpoints::edit;
use super::models::{BAN, BUTD, MFB, MMNASNET, VQA_MCAN};
use super::worlds::{VQA, world_of};
use super::{Row, bytes, check, row};
use mcan::checkpoint::Checkpoint;
use std::fs;
use tch::{Device, Kind, Tensor};

const VAL: [&str; 3] = [
    "--CFG=WORLD/model.yml",
    "--RUN=val",
    "--CKPT_PATH=WORLD/sound.pkl",
];

fn zeros(shape: &[i64]) -> Tensor {
    Tensor::zeros(shape, (Kind::Float, Device::Cpu))
}

/// A number that no list of layers can have.
fn item(list: &str) -> impl Fn(&mut Checkpoint) + 'static {
    let name = format!("{list}1000000000000000.x");
    move |checkpoint| checkpoint.state_dict.push((name.clone(), zeros(&[1])))
}

/// Damages of the checkpoint of a model with this parameter and this list.
fn damaged(kind: &str, model: &str, weight: &'static [&'static str; 1], list: &str) {
    let of_weight = move |name: &str| name == weight[0];
    let reshape = move |checkpoint: &mut Checkpoint| {
        let mut parameters = checkpoint.state_dict.iter_mut();
        parameters.find(|(name, _)| of_weight(name)).unwrap().1 = zeros(&[3, 5, 7]);
    };
    let rows = vec![
        edit(
            "missing parameter",
            move |c| c.state_dict.retain(|(name, _)| !of_weight(name)),
            weight,
        ),
        edit("wrong shape", reshape, weight),
        edit(
            "wrong shape of the last one",
            |c| c.state_dict.last_mut().unwrap().1 = zeros(&[3]),
            &["is [3], should be"],
        ),
        edit(
            "unknown parameter",
            |c| c.state_dict.push(("colour".into(), zeros(&[1]))),
            &["unknown to the model: colour"],
        ),
        edit(
            "NaN",
            |c| drop(c.state_dict[3].1.fill_(f64::NAN)),
            &["not finite"],
        ),
        edit("absurd size: layer 10^15", item(list), &["sound.pkl: "]),
    ];
    check(&world_of("vqa", &VQA, model), kind, "sound.pkl", &VAL, rows);
}

#[test]
fn checkpoint_of_butd() {
    damaged(
        "checkpoint of BUTD",
        BUTD,
        &["backbone.v_att.linear_q.weight_v"],
        "backbone.v_att.",
    );
}

#[test]
fn checkpoint_of_ban() {
    damaged(
        "checkpoint of BAN",
        BAN,
        &["backbone.BiAtt.logits.h_mat_v"],
        "backbone.q_prj.",
    );
}

#[test]
fn checkpoint_of_mfb() {
    damaged(
        "checkpoint of MFB",
        MFB,
        &["backbone.i_att.mfb.proj_i.weight"],
        "backbone.mfh",
    );
}

#[test]
fn checkpoint_of_mmnasnet() {
    damaged(
        "checkpoint of MMNasNet",
        MMNASNET,
        &["linear_rel.weight"],
        "backbone.dec_list.",
    );
}

#[test]
fn checkpoint_of_mcan() {
    damaged(
        "checkpoint of OpenVQA's MCAN",
        VQA_MCAN,
        &["adapter.frcn_linear.weight"],
        "backbone.enc_list.",
    );
}

/// Checkpoints of other families than the model file says: of this program, and bare ones, as OpenVQA writes them.
#[test]
fn checkpoint_of_another_family() {
    let mut rows: Vec<Row> = Vec::new();
    for (name, model) in [
        ("BUTD", BUTD),
        ("BAN", BAN),
        ("MFB", MFB),
        ("MMNasNet", MMNASNET),
    ] {
        let checkpoint = fs::read(world_of("vqa", &VQA, model).root.join("sound.pkl")).unwrap();
        let bare = edit("", |c| c.mcan = None, &[]);
        let bare = (bare.make)(&checkpoint).unwrap();
        rows.push(bytes(name, checkpoint, &["leave --MODEL and --CFG out"]));
        rows.push(row(
            name,
            move |_| bare.clone(),
            &["its parameters are those of", "leave --MODEL and --CFG out"],
        ));
    }
    check(
        &world_of("vqa", &VQA, VQA_MCAN),
        "checkpoint of another family",
        "sound.pkl",
        &VAL,
        rows,
    );
}
