"""What holds for every model here, and for the parts that they share."""

import pytest
import torch

from vovnet import create_backbone, create_model
from vovnet.losses.multibox import MultiBoxLoss
from vovnet.models.anchors import AnchorGrid, AnchorLevel, make_anchors
from vovnet.models.backbones.vovnet import LAYERS_PER_MODULE, OSAModule
from vovnet.models.detectors.ssd import ANCHORS_DSOD
from vovnet.models.layers import L2Norm, make_norm
from vovnet.models.preprocessing import Preprocessing
from vovnet.structures import Target
from vovnet.zoo import SPECS


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def random_images(n=2, size=300):
    return torch.randn(n, 3, size, size) * 50


@pytest.mark.parametrize(
    "name", [name for name, spec in SPECS.items() if not spec.backbones]
)  # detectors on any backbone have tests of their own
def test_contract(name):
    """The same keys in train and eval mode; a batch equals its images alone; every parameter gets a gradient."""
    model = create_model(name, num_classes=3).eval()
    images = random_images()
    with torch.no_grad():
        outputs = model(images)
        for index in range(2):
            alone = model(images[index : index + 1])
            torch.testing.assert_close(outputs["class_logits"][index], alone["class_logits"][0], rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(outputs["box_deltas"][index], alone["box_deltas"][0], rtol=1e-3, atol=1e-4)
    a = len(outputs["anchors_cxcywh"])
    assert outputs["class_logits"].shape == (2, a, 4)
    assert outputs["box_deltas"].shape == (2, a, 4)

    model.train()
    outputs = model(images)
    assert set(outputs) == {"class_logits", "box_deltas", "anchors_cxcywh"}
    losses = MultiBoxLoss()(outputs, [Target.make([[10, 10, 90, 120], [150, 100, 290, 280]], [0, 2])] * 2)
    assert sum(losses.values()).isfinite()
    sum((outputs[key] * torch.randn_like(outputs[key])).sum() for key in ("class_logits", "box_deltas")).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_decode_by_hand():
    model = create_model("dsod300_vovnet27_slim", num_classes=2)
    anchors = torch.tensor([[30.0, 30, 20, 20], [32.0, 30, 20, 20], [200.0, 100, 60, 40], [0.0, 0, 20, 20]])
    logits = torch.full((1, 4, 3), -10.0)
    logits[0, :, 0] = 0.0  # background
    logits[0, 0, 1], logits[0, 1, 1], logits[0, 2, 2], logits[0, 3, 1] = 3.0, 2.0, 1.0, 0.0
    outputs = {"class_logits": logits, "box_deltas": torch.zeros(1, 4, 4), "anchors_cxcywh": anchors}
    (detections,) = model.decode(outputs, [(600, 900)])  # twice as high and three times as wide as the network's input
    assert detections.labels.tolist() == [0, 1, 0]  # the second anchor has IoU 0.82 with the first and the same class
    torch.testing.assert_close(
        detections.boxes, torch.tensor([[60.0, 40, 120, 80], [510, 160, 690, 240], [0, 0, 30, 20]]), atol=1e-3, rtol=0
    )
    assert detections.scores.tolist() == sorted(detections.scores.tolist(), reverse=True)
    assert detections.scores[0].item() == pytest.approx(torch.tensor([0.0, 3.0]).softmax(0)[1].item(), abs=1e-3)
    assert len(model.decode(outputs, [(600, 900)], top_k=2)[0]) == 2
    assert len(model.decode(outputs, [(600, 900)], score_threshold=0.6)[0]) == 2
    # For an input of half the size, the same boxes are twice as large in the image.
    (larger,) = model.decode(outputs, [(600, 900)], input_size=(150, 150))
    torch.testing.assert_close(larger.boxes[0], torch.tensor([120.0, 80, 240, 160]), atol=1e-3, rtol=0)
    # Another class at the same position is not suppressed.
    logits[0, 1, 1], logits[0, 1, 2] = -10.0, 2.0
    assert model.decode(outputs, [(600, 900)])[0].labels.tolist() == [0, 1, 1, 0]


def test_a_huge_box_in_one_image_does_not_affect_another():
    """One NMS handles the boxes of all images and classes, separated by shifts that depend on the largest box."""
    torch.manual_seed(1)
    model = create_model("dsod300_vovnet27_slim", num_classes=20)
    anchors = torch.rand(400, 4) * 100 + 60
    outputs = {
        "class_logits": torch.randn(8, 400, 21) * 3,
        "box_deltas": torch.randn(8, 400, 4),
        "anchors_cxcywh": anchors,
    }
    sizes = [(300, 300)] * 8
    before = model.decode(outputs, sizes, top_k=10_000)
    outputs["box_deltas"][0, :, 2:] = 30.0
    after = model.decode(outputs, sizes, top_k=10_000)
    for a, b in zip(before[1:], after[1:], strict=True):
        assert torch.equal(a.boxes, b.boxes)
        assert torch.equal(a.scores, b.scores)


def test_decode_without_detections():
    model = create_model("dsod300_vovnet27_slim", num_classes=2)
    logits = torch.tensor([[[20.0, 0, 0]]]).expand(2, 5, 3)
    outputs = {"class_logits": logits, "box_deltas": torch.zeros(2, 5, 4), "anchors_cxcywh": torch.ones(5, 4)}
    assert [len(d) for d in model.decode(outputs, [(10, 10), (20, 20)])] == [0, 0]


def test_concat_order_is_input_then_layers():
    module = OSAModule(8, 4, 6).eval()
    x = torch.randn(1, 8, 5, 5)
    seen = {}
    module.concat.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    module(x)
    assert seen["x"].shape[1] == 8 + LAYERS_PER_MODULE * 4
    torch.testing.assert_close(seen["x"][:, :8], x)
    torch.testing.assert_close(seen["x"][:, 8:12], module.layers[0](x))


def test_identity_adds_the_input_in_repeated_modules_only():
    plain = create_backbone("vovnet39", features_only=True, stem="stride")
    residual = create_backbone("vovnet39", features_only=True, stem="stride", identity=True)
    assert [[m.identity for m in stage] for stage in residual.stages] == [
        [False],
        [False],
        [False, True],
        [False, True],
    ]
    residual.load_state_dict(plain.state_dict())
    x = random_images(1, 64)
    with torch.no_grad():
        a, b = plain.eval()(x), residual.eval()(x)
    torch.testing.assert_close(a[1], b[1])
    assert not torch.allclose(a[2], b[2])


@pytest.mark.parametrize(("channels", "groups"), [(80, 16), (112, 16), (64, 32), (96, 32), (128, 32)])
def test_group_norm_falls_back_to_the_common_divisor(channels, groups):
    assert make_norm("group", channels).num_groups == groups


def test_group_norm_network_has_the_same_parameters_and_no_batch_statistics():
    batch = create_backbone("vovnet27_slim", features_only=True)
    group = create_backbone("vovnet27_slim", features_only=True, norm="group")
    assert sum(p.numel() for p in group.parameters()) == sum(p.numel() for p in batch.parameters())
    assert not list(group.buffers())
    assert [f.shape[-1] for f in group(random_images(1, 64))] == [16, 8, 4, 2]  # rounded up by the pool stem


def test_classifier():
    model = create_backbone("vovnet27_slim", num_classes=7).eval()
    assert model(random_images(2, 64)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "option", "value", "right"),
    [
        ("vovnet27_slim", "stem", "none", "'pool' or 'stride'"),
        ("vovnet27_slim", "pool", "k4", "'k3' or 'k2'"),
        ("vovnet27_slim", "ese", "first", "'none', 'all' or 'last'"),
        ("vovnet27_slim", "norm", "layer", "'batch', 'group' or 'frozen'"),
        ("mobilenet", "init", "zeros", "'kaiming' or 'xavier'"),
        ("resnet50", "style", "pytorch", "'caffe' or 'torchvision'"),
    ],
)
def test_wrong_options_say_what_is_right(name, option, value, right):
    with pytest.raises(ValueError, match=f"{option} must be {right}, got '{value}'"):
        create_backbone(name, **{option: value})


def test_wrong_names_get_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'vovnet39'"):
        create_backbone("vovnet_39")
    with pytest.raises(ValueError, match="did you mean 'dsod300_vovnet27_slim'"):
        create_model("dsod300_vovnet27slim", num_classes=2)
    with pytest.raises(ValueError, match="no set of anchors is called 'coc', did you mean 'coco'"):
        create_model("dsod300_vovnet27_slim", num_classes=2, anchors="coc")
    with pytest.raises(ValueError, match="at least 1, got 0"):
        create_model("dsod300_vovnet27_slim", num_classes=0)


def test_l2norm():
    x = torch.randn(2, 5, 3, 3)
    out = L2Norm(5, scale=20.0)(x)
    torch.testing.assert_close(out.norm(dim=1), torch.full((2, 3, 3), 20.0), rtol=1e-4, atol=1e-3)
    assert L2Norm(5, 20.0)(torch.zeros(1, 5, 1, 1)).isfinite().all()


def test_anchor_shapes_and_order():
    level = AnchorLevel(30, 60, (2, 3), 8)
    assert level.per_cell == len(level.shapes()) == 6
    root = (30 * 60) ** 0.5
    expected = [(30, 30), (root, root), (42.426, 21.213), (21.213, 42.426), (51.962, 17.321), (17.321, 51.962)]
    torch.testing.assert_close(torch.tensor(level.shapes()), torch.tensor(expected), atol=1e-3, rtol=0)
    assert [a.per_cell for a in ANCHORS_DSOD["voc"]] == [4, 6, 6, 6, 4, 4]


def test_anchor_centres():
    anchors = make_anchors([AnchorLevel(10, None, ()), AnchorLevel(50, None, (), 300)], [(2, 3), (2, 2)], (60, 90))
    assert anchors[:6, :2].tolist() == [[15, 15], [45, 15], [75, 15], [15, 45], [45, 45], [75, 45]]  # x runs fastest
    # DSOD's last map keeps its published step of 300, which puts three of four centres outside a 300 image.
    assert anchors[6:, :2].tolist() == [[150, 150], [450, 150], [150, 450], [450, 450]]


def test_preprocessing():
    image = torch.zeros(3, 20, 30, dtype=torch.uint8)
    image[0] = 255  # red
    batch = Preprocessing((10, 10))([image, image])
    assert batch.shape == (2, 3, 10, 10)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert batch[0, :, 0, 0].tolist() == [-104, -117, 132]  # blue, green, red less their means
    rgb = Preprocessing((10, 10), mean=(127.5,) * 3, std=(127.5,) * 3, channel_order="RGB")([image])
    assert rgb[0, :, 0, 0].tolist() == [1, -1, -1]
    assert Preprocessing((10, 10)).mean_rgb == (123.0, 117.0, 104.0)


def test_resizing_to_another_size():
    image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    for preprocessing in (Preprocessing((10, 10)), Preprocessing((10, 99), keep_ratio=True)):
        assert preprocessing.resize(image, (8, 16)).shape == (3, 8, 16)
        assert torch.equal(preprocessing.resize(image, (20, 30)), image)
        assert preprocessing.resize(image).shape[1:] == preprocessing.input_size((20, 30))


def test_anchors_are_made_once_for_each_size_and_device():
    grid = AnchorGrid([AnchorLevel(10, None, ())])
    feature = torch.zeros(1, 1, 2, 3)
    first = grid([feature], torch.zeros(1, 3, 60, 90))
    assert grid([feature], torch.ones(4, 3, 60, 90)) is first
    assert grid([feature], torch.zeros(1, 3, 30, 90)) is not first
    assert grid([feature.to("meta")], torch.zeros(1, 3, 60, 90, device="meta")).is_meta
    assert grid([feature], torch.zeros(1, 3, 60, 90)) is first


def test_a_model_that_was_built_on_the_meta_device_has_real_anchors():
    with torch.device("meta"):
        model = create_model("ssd300_mobilenet", 2).eval()
        model(torch.zeros(1, 3, 300, 300))
    model.to_empty(device="cpu")
    expected = create_model("ssd300_mobilenet", 2).eval()(torch.zeros(1, 3, 300, 300))["anchors_cxcywh"]
    assert torch.equal(model(torch.zeros(1, 3, 300, 300))["anchors_cxcywh"], expected)
    assert not any("anchor" in name for name in model.state_dict())
