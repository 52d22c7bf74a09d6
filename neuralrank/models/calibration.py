"""Measures what a model's numbers mean: what it gives unrelated texts, and what related ones.

The blend of scores needs numbers on one scale. Encoders differ much (E5 gives unrelated texts a
cosine of 0.75, others 0.1), so every bundle is measured when it is made, on the pairs below.
"""

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from neuralrank.bundle import Calibration
from neuralrank.cross_encoder import CrossEncoder
from neuralrank.encoder import Encoder

__all__ = ["PAIRS", "calibrate_cross_encoder", "calibrate_encoder"]

# (query, title of a product that answers it, another such product), by language.
PAIRS: dict[str, list[tuple[str, str, str]]] = {
    "en": [
        ("laptop for students", "Lenovo IdeaPad 3 15.6 inch Laptop, 8GB RAM, 256GB SSD", "Acer Aspire 5 Slim Laptop, 15.6 inch Full HD IPS"),
        ("running shoes women", "ASICS Women's Gel-Contend 5 Running Shoes", "Brooks Women's Ghost 12 Running Shoe"),
        ("coffee maker", "Mr. Coffee 12-Cup Programmable Coffee Maker", "Keurig K-Classic Single Serve Coffee Brewer"),
        ("wireless mouse", "Logitech M510 Wireless Computer Mouse with USB Receiver", "Microsoft Bluetooth Mobile Mouse 3600"),
        ("dog food", "Purina Pro Plan Dry Dog Food, Chicken & Rice", "Blue Buffalo Life Protection Adult Dog Food"),
        ("office chair", "Ergonomic Mesh Office Chair with Lumbar Support", "High Back Executive Desk Chair, Black Leather"),
        ("water bottle", "Hydro Flask Stainless Steel Water Bottle 32 oz", "Nalgene Wide Mouth Water Bottle"),
        ("toner cartridge", "Brother TN660 High Yield Black Toner Cartridge", "HP 26A Black LaserJet Toner Cartridge"),
        ("yoga mat", "Gaiam Essentials Thick Yoga Mat with Carrying Strap", "Manduka PRO Yoga and Pilates Mat"),
        ("usb c cable", "Anker PowerLine USB-C to USB-C Cable, 6 ft", "USB Type C Fast Charging Cable, Braided"),
        ("shampoo for dry hair", "Moroccan Argan Oil Shampoo for Dry Damaged Hair", "Moisture Repair Sulfate Free Shampoo"),
        ("board games for family", "Ticket to Ride Board Game, Ages 8 and Up", "Catan Family Strategy Board Game"),
    ],
    "zh": [
        ("学生笔记本电脑", "联想小新 15.6英寸轻薄笔记本电脑 8G 256G固态", "宏碁 15.6英寸全高清轻薄本"),
        ("女跑步鞋", "亚瑟士女款缓震跑步鞋 透气运动鞋", "布鲁克斯女士减震慢跑鞋"),
        ("咖啡机", "德龙全自动意式咖啡机 家用", "胶囊咖啡机 小型办公室"),
        ("无线鼠标", "罗技无线鼠标 办公笔记本电脑静音", "微软蓝牙便携鼠标"),
        ("狗粮", "皇家成犬粮 通用型鸡肉味10kg", "比瑞吉幼犬狗粮 金毛泰迪"),
        ("办公椅", "人体工学网布办公椅 护腰电脑椅", "真皮老板椅 高背大班椅"),
        ("保温杯", "膳魔师316不锈钢保温杯500ml", "虎牌真空保冷保温水杯"),
        ("硒鼓", "兄弟打印机黑色硒鼓 大容量", "惠普激光打印机粉盒 易加粉"),
        ("瑜伽垫", "加厚防滑瑜伽垫 健身垫初学者", "天然橡胶专业瑜伽垫"),
        ("数据线", "安克 USB-C 快充数据线 1.8米", "编织Type-C充电线 手机"),
        ("洗发水", "摩洛哥坚果油修护洗发水 干枯受损", "无硅油滋润洗发露"),
        ("四件套", "纯棉刺绣床上四件套 全棉被套床单", "水洗棉床品套件 双人"),
    ],
}  # fmt: skip


def _pairs(languages: tuple[str, ...]) -> list[tuple[str, str, str]]:
    known = [language for language in PAIRS if not languages or language in languages]
    return [pair for language in known or PAIRS for pair in PAIRS[language]]


def _range(related: NDArray[np.float32], unrelated: NDArray[np.float32]) -> Calibration:
    """From what an unrelated pair typically has to what a very good one has."""
    low = float(np.median(unrelated))
    high = float(np.quantile(related, 0.9))
    if not high > low:
        # A model that can't tell them apart. Any range will do: its numbers mean nothing here.
        high = low + 1.0
    return Calibration(low=round(low, 4), high=round(high, 4))


def calibrate_encoder(encoder: Encoder) -> tuple[Calibration, Calibration]:
    """The ranges of the cosines between query and item, and between items."""
    pairs = _pairs(encoder.bundle.manifest.languages)
    queries = encoder.encode_queries([query for query, _, _ in pairs])
    first = encoder.encode_passages([item for _, item, _ in pairs])
    second = encoder.encode_passages([item for _, _, item in pairs])
    apart = ~np.eye(len(pairs), dtype=bool)
    by_query, by_item = queries @ first.T, first @ second.T
    return (
        _range(np.diag(by_query), by_query[apart]),
        _range(np.diag(by_item), by_item[apart]),
    )


def calibrate_cross_encoder(model: CrossEncoder) -> Calibration:
    """The range of the logits."""
    pairs = _pairs(model.bundle.manifest.languages)
    related = [model.score(query, [first, second]) for query, first, second in pairs]
    unrelated = [model.score(a[0], [b[1]]) for a, b in list(permutations(pairs, 2))[::5]]
    return _range(np.concatenate(related), np.concatenate(unrelated))
