"""Printed designs drawn with Pillow: invented brands, stripes, fruit, a barcode, a table of nutrition values."""

import colorsys

from PIL import Image, ImageDraw, ImageFont

SYLLABLES = ("ALBA", "BRU", "CORI", "DOLA", "FENN", "GLIM", "HAVO", "JUNA", "KELO", "LUMI", "MIRO", "NOVA", "ORBI")
ENDINGS = ("", "LO", "RA", "NE", "TO", "SA", "VI", "MA")
WORDS = {
    "can": ("COLA", "TONIC", "ORANGE", "LEMON", "GINGER", "BEER", "ICE TEA", "ENERGY"),
    "carton": ("MILK", "ORANGE", "APPLE", "OAT", "JUICE", "ALMOND", "ICE TEA", "CREAM"),
    "milk_bottle": ("MILK", "FRESH", "DAIRY", "WHOLE", "OAT", "FARM"),
    "water_bottle": ("SPRING", "AQUA", "STILL", "MINERAL", "ALPINE", "PURE"),
    "jar": ("JAM", "HONEY", "OLIVES", "SAUCE", "PICKLES", "CHERRY"),
    "mug": ("HELLO", "COFFEE", "MORNING", "TEA TIME", "HOME", "No 1"),
    "box": ("CEREAL", "TEA", "RICE", "PASTA", "COOKIES", "OATS", "CRACKERS"),
}


def draw_label(rng, kind, size, *, repeats=1):
    """Draw a design of `size` (width, height) pixels, `repeats` times side by side (front and back of a can)."""
    width, height = size[0] // repeats, size[1]
    hue = rng.random()
    ground = _color(hue, rng.uniform(0.0, 0.9), rng.uniform(0.45, 1.0))
    accent = _color(hue + rng.choice((0.08, 0.33, 0.5)), rng.uniform(0.6, 1), rng.uniform(0.3, 0.95))
    ink = (255, 255, 255) if sum(ground) < 380 else _color(hue + 0.5, 0.7, 0.25)
    image = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(image)
    rng.choice((_stripes, _waves, _band, _fruit, _blank))(rng, draw, width, height, accent)
    brand = rng.choice(SYLLABLES) + rng.choice(ENDINGS)
    upright = rng.random() < 0.3 and height > width
    _write(image, brand, ink, rng.uniform(0.18, 0.42), turned=upright)
    _write(image, rng.choice(WORDS[kind]), ink if rng.random() < 0.6 else accent, rng.uniform(0.6, 0.78), share=0.5)
    if rng.random() < 0.6:
        _small_print(rng, draw, width, height, ink)
    whole = Image.new("RGB", (width * repeats, height))
    for i in range(repeats):
        whole.paste(image, (i * width, 0))
    return whole


def draw_side(rng, kind, size, front):
    """Draw the side of a package: the ground of its front, small print, a table, a barcode."""
    image = Image.new("RGB", size, front.getpixel((2, 2)))
    draw = ImageDraw.Draw(image)
    ink = (255, 255, 255) if sum(front.getpixel((2, 2))) < 380 else (40, 40, 50)
    _small_print(rng, draw, *size, ink)
    _write(image, rng.choice(WORDS[kind]), ink, 0.2, share=0.7)
    return image


def _color(hue, saturation, value):
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _write(image, text, ink, at, *, share=0.85, turned=False):
    """Write one line as wide as `share` of the image, its middle at `at` of the height (along it when turned)."""
    reach = image.height if turned else image.width
    font = ImageFont.load_default(64)
    size = min(64 * share * reach / font.getlength(text), 0.3 * (image.width if turned else image.height))
    font = ImageFont.load_default(max(size, 8))
    left, top, right, bottom = font.getbbox(text)
    word = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(word).text((2 - left, 2 - top), text, font=font, fill=255)
    if turned:
        word, at = word.rotate(90, expand=True), 0.5
    where = ((image.width - word.width) // 2, int(image.height * at - word.height / 2))
    image.paste(ink, (*where, where[0] + word.width, where[1] + word.height), word)


def _stripes(rng, draw, width, height, accent):
    n, share = rng.randint(2, 7), rng.uniform(0.2, 0.6)
    for i in range(n):
        top = height * i / n
        draw.rectangle((0, top, width, top + height / n * share), fill=accent)


def _waves(rng, draw, width, height, accent):
    level, rise = rng.uniform(0.35, 0.7) * height, rng.uniform(-0.25, 0.25) * height
    draw.polygon([(0, level), (width / 2, level + rise), (width, level), (width, height), (0, height)], fill=accent)


def _band(rng, draw, width, height, accent):
    top = rng.uniform(0.1, 0.5) * height
    draw.rectangle((0, top, width, top + rng.uniform(0.15, 0.35) * height), fill=accent)


def _fruit(rng, draw, width, height, accent):
    for _ in range(rng.randint(1, 5)):
        x, y, r = rng.random() * width, rng.uniform(0.4, 1.0) * height, rng.uniform(0.1, 0.3) * width
        draw.ellipse((x - r, y - r, x + r, y + r), fill=accent)
        draw.ellipse((x - r * 0.5, y - r * 0.6, x - r * 0.1, y - r * 0.2), fill=(255, 255, 240))


def _blank(rng, draw, width, height, accent):
    draw.ellipse((width * 0.2, height * 0.3, width * 0.8, height * 0.3 + width * 0.6), outline=accent, width=4)


def _small_print(rng, draw, width, height, ink):
    left = rng.uniform(0.05, 0.3) * width
    for i in range(rng.randint(4, 9)):
        y = height * (0.82 + 0.018 * i)
        draw.line((left, y, left + rng.uniform(0.25, 0.5) * width, y), fill=ink, width=2)
    x = width * 0.72
    for _ in range(14):
        bar = rng.choice((1, 2, 3))
        draw.rectangle((x, height * 0.83, x + bar, height * 0.94), fill=(20, 20, 20))
        x += bar + rng.choice((1, 2, 3))
