#!/usr/bin/env python3
"""Draws examples/ocr/sample.png: an invoice of a company that does not exist.

Needs Pillow and Debian's fonts-noto-cjk:

    python tools/make_sample.py examples/ocr/sample.png
"""
import sys

from PIL import Image, ImageDraw, ImageFont

FOLDER = "/usr/share/fonts/opentype/noto/"
SIMPLIFIED_CHINESE = 2  # the face in the collection
INK, SOFT, LINE, ACCENT = (33, 37, 41), (92, 99, 106), (205, 210, 215), (32, 84, 147)
WIDTH, HEIGHT, MARGIN = 1000, 1180, 64

ITEMS = [
    ("桨式流量计 TR-480", "台", "6", "1,280.00", "7,680.00"),
    ("不锈钢接头 DN25", "个", "48", "18.50", "888.00"),
    ("控制电缆 RVV 3×1.5", "米", "200", "4.20", "840.00"),
    ("压力传感器 PX-12", "只", "4", "365.00", "1,460.00"),
    ("安装与调试服务", "次", "1", "950.00", "950.00"),
]
COLUMNS = [
    (MARGIN + 16, "left"),
    (510, "left"),
    (640, "right"),
    (780, "right"),
    (WIDTH - MARGIN - 16, "right"),
]


def font(size, bold=False):
    return ImageFont.truetype(
        FOLDER + f"NotoSansCJK-{'Bold' if bold else 'Regular'}.ttc", size, index=SIMPLIFIED_CHINESE
    )


def row(draw, y, cells, style, colour):
    for (x, side), cell in zip(COLUMNS, cells):
        draw.text((x, y), cell, font=style, fill=colour, anchor="la" if side == "left" else "ra")


def heading(draw):
    draw.rectangle((0, 0, WIDTH, 14), fill=ACCENT)
    draw.text((MARGIN, 56), "三桨仪表有限公司", font=font(40, True), fill=INK)
    draw.text((MARGIN, 116), "Trireme Instruments Co., Ltd.", font=font(22), fill=SOFT)
    draw.text((WIDTH - MARGIN, 56), "发票", font=font(48, True), fill=ACCENT, anchor="ra")
    draw.text((WIDTH - MARGIN, 124), "INVOICE", font=font(20), fill=SOFT, anchor="ra")


def details(draw):
    pairs = [
        ("发票编号", "INV-2026-00417"),
        ("开票日期", "2026年3月18日"),
        ("购货单位", "临江市第二自来水厂"),
        ("地址", "临江市滨河路88号"),
        ("电话", "0571-8800 4170"),
    ]
    for i, (name, value) in enumerate(pairs):
        y = 196 + 44 * i
        draw.text((MARGIN, y), name, font=font(22), fill=SOFT)
        draw.text((MARGIN + 130, y), value, font=font(24), fill=INK)


def table(draw):
    top = 452
    draw.rectangle((MARGIN, top, WIDTH - MARGIN, top + 52), fill=(232, 238, 246))
    row(draw, top + 12, ("品名规格", "单位", "数量", "单价", "金额"), font(22, True), ACCENT)
    for i, item in enumerate(ITEMS):
        y = top + 52 + 58 * i
        row(draw, y + 14, item, font(23), INK)
        draw.line((MARGIN, y + 58, WIDTH - MARGIN, y + 58), fill=LINE)
    return top + 52 + 58 * len(ITEMS)


def totals(draw, y):
    right = WIDTH - MARGIN - 16
    for i, (name, value) in enumerate([("小计", "11,818.00"), ("增值税 13%", "1,536.34")]):
        draw.text((640, y + 24 + 44 * i), name, font=font(23), fill=SOFT, anchor="ra")
        draw.text((right, y + 24 + 44 * i), value, font=font(23), fill=INK, anchor="ra")
    draw.text((640, y + 120), "合计", font=font(30, True), fill=INK, anchor="ra")
    draw.text((right, y + 120), "¥13,354.34", font=font(30, True), fill=ACCENT, anchor="ra")


def footer(draw):
    draw.line((MARGIN, 1010, WIDTH - MARGIN, 1010), fill=LINE, width=2)
    small = font(20)
    draw.text((MARGIN, 1034), "请于收到发票后30日内付款，谢谢惠顾！", font=font(22), fill=INK)
    draw.text((MARGIN, 1080), "开户银行：临江市商业银行滨河支行", font=small, fill=SOFT)
    draw.text(
        (MARGIN, 1116),
        "Payment within 30 days. Questions: billing@trireme.example",
        font=small,
        fill=SOFT,
    )


def main():
    page = Image.new("RGB", (WIDTH, HEIGHT), (255, 255, 255))
    draw = ImageDraw.Draw(page)
    heading(draw)
    details(draw)
    totals(draw, table(draw))
    footer(draw)
    page.quantize(64).save(sys.argv[1], optimize=True)


if __name__ == "__main__":
    main()
