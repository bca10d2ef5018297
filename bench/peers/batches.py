"""Batches as `patrickstar train` takes them (apps/cli/token_data.cc), without torch."""

MASK = (1 << 64) - 1


class MersenneTwister64:
    """std::mt19937_64 (Matsumoto and Nishimura; the constants are the C++ standard's)."""

    def __init__(self, seed):
        self.state = [seed & MASK]
        for i in range(1, 312):
            last = self.state[-1]
            self.state.append((6364136223846793005 * (last ^ (last >> 62)) + i) & MASK)
        self.at = 312

    def _renew(self):
        s, low = self.state, (1 << 31) - 1
        for i in range(312):
            x = (s[i] & ~low & MASK) | (s[(i + 1) % 312] & low)
            s[i] = s[(i + 156) % 312] ^ (x >> 1) ^ (0xB5026F5AA96619E9 if x & 1 else 0)
        self.at = 0

    def __call__(self):
        if self.at == 312:
            self._renew()
        x = self.state[self.at]
        self.at += 1
        x ^= (x >> 29) & 0x5555555555555555
        x ^= (x << 17) & 0x71D67FFFEDA60000
        x ^= (x << 37) & 0xFFF7EEE000000000
        return x ^ (x >> 43)


class Batches:
    """Random places in the first nine tenths of a text, bytes as tokens. For a seed those of `patrickstar train`."""

    def __init__(self, text, batch_size, length, seed):
        self.text, self.batch_size, self.length, self.random = text, batch_size, length, MersenneTwister64(seed)
        cut = len(text) // 10 * 9
        self.places = (cut if len(text) - cut > length and cut > length else len(text)) - length

    def next(self):
        """(rows of tokens, rows of targets)"""
        places = [self.random() % self.places for _ in range(self.batch_size)]
        return ([list(self.text[at : at + self.length]) for at in places], [list(self.text[at + 1 : at + self.length + 1]) for at in places])
