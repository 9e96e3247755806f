/* The MD5 of many blocks of one length: each lane of a vector register computes that of one block.

One MD5 cannot be computed faster, since each of its steps needs the one before; but blocks do not
depend on each other.  No intrinsics: GCC and clang make of these vectors what the target has, which
is SSE2, NEON or plain C for the variant that every machine has.  RFC 1321.

The file includes itself once for each variant, with LANES, TARGET and a name, RUN. */

#ifndef LANES

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "MD5 reads little-endian words, and so does this"
#endif

#define DIGEST 16    /* bytes */
#define CHUNK 64     /* bytes that MD5 takes at a time */
#define FEW 4        /* so many blocks or more are worth a group of lanes that are not all used */
#define AT_LEAST 2048 /* bytes for which it pays to release the interpreter's lock, as hashlib has it */

#define F(b, c, d) (d ^ (b & (c ^ d)))
#define G(b, c, d) (c ^ (d & (b ^ c)))
#define H(b, c, d) (b ^ c ^ d)
#define I(b, c, d) (c ^ (b | ~d))
#define STEP(f, a, b, c, d, word, constant, bits) \
    a += f(b, c, d) + words[word] + constant;     \
    a = b + ((a << bits) | (a >> (32 - bits)));
#define FOUR(f, w0, w1, w2, w3, b0, b1, b2, b3, k0, k1, k2, k3)                     \
    STEP(f, a, b, c, d, w0, k0, b0) STEP(f, d, a, b, c, w1, k1, b1)                 \
    STEP(f, c, d, a, b, w2, k2, b2) STEP(f, b, c, d, a, w3, k3, b3)
#define ROUNDS                                                                                      \
    FOUR(F, 0, 1, 2, 3, 7, 12, 17, 22, 0xd76aa478u, 0xe8c7b756u, 0x242070dbu, 0xc1bdceeeu)          \
    FOUR(F, 4, 5, 6, 7, 7, 12, 17, 22, 0xf57c0fafu, 0x4787c62au, 0xa8304613u, 0xfd469501u)          \
    FOUR(F, 8, 9, 10, 11, 7, 12, 17, 22, 0x698098d8u, 0x8b44f7afu, 0xffff5bb1u, 0x895cd7beu)        \
    FOUR(F, 12, 13, 14, 15, 7, 12, 17, 22, 0x6b901122u, 0xfd987193u, 0xa679438eu, 0x49b40821u)      \
    FOUR(G, 1, 6, 11, 0, 5, 9, 14, 20, 0xf61e2562u, 0xc040b340u, 0x265e5a51u, 0xe9b6c7aau)          \
    FOUR(G, 5, 10, 15, 4, 5, 9, 14, 20, 0xd62f105du, 0x02441453u, 0xd8a1e681u, 0xe7d3fbc8u)         \
    FOUR(G, 9, 14, 3, 8, 5, 9, 14, 20, 0x21e1cde6u, 0xc33707d6u, 0xf4d50d87u, 0x455a14edu)          \
    FOUR(G, 13, 2, 7, 12, 5, 9, 14, 20, 0xa9e3e905u, 0xfcefa3f8u, 0x676f02d9u, 0x8d2a4c8au)         \
    FOUR(H, 5, 8, 11, 14, 4, 11, 16, 23, 0xfffa3942u, 0x8771f681u, 0x6d9d6122u, 0xfde5380cu)        \
    FOUR(H, 1, 4, 7, 10, 4, 11, 16, 23, 0xa4beea44u, 0x4bdecfa9u, 0xf6bb4b60u, 0xbebfbc70u)         \
    FOUR(H, 13, 0, 3, 6, 4, 11, 16, 23, 0x289b7ec6u, 0xeaa127fau, 0xd4ef3085u, 0x04881d05u)         \
    FOUR(H, 9, 12, 15, 2, 4, 11, 16, 23, 0xd9d4d039u, 0xe6db99e5u, 0x1fa27cf8u, 0xc4ac5665u)        \
    FOUR(I, 0, 7, 14, 5, 6, 10, 15, 21, 0xf4292244u, 0x432aff97u, 0xab9423a7u, 0xfc93a039u)         \
    FOUR(I, 12, 3, 10, 1, 6, 10, 15, 21, 0x655b59c3u, 0x8f0ccc92u, 0xffeff47du, 0x85845dd1u)        \
    FOUR(I, 8, 15, 6, 13, 6, 10, 15, 21, 0x6fa87e4fu, 0xfe2ce6e0u, 0xa3014314u, 0x4e0811a1u)        \
    FOUR(I, 4, 11, 2, 9, 6, 10, 15, 21, 0xf7537e82u, 0xbd3af235u, 0x2ad7d2bbu, 0xeb86d391u)

typedef void Run(const uint8_t *block, size_t stride, size_t length, size_t count, uint8_t *out);

#define LANES 1
#define TARGET
#define RUN run_single
#include "md5lanes.c"

#define LANES 16
#define TARGET
#define RUN run_plain
#include "md5lanes.c"

#if defined(__x86_64__) || defined(__i386__)

#define LANES 16
#define TARGET __attribute__((target("avx2")))
#define RUN run_avx2
#include "md5lanes.c"

/* two vectors in each step: one alone waits for its own results half of the time */
#define LANES 32
#define TARGET __attribute__((target("avx512f")))
#define RUN run_avx512
#include "md5lanes.c"

static int has_avx2(void) { return __builtin_cpu_supports("avx2"); }
static int has_avx512(void) { return __builtin_cpu_supports("avx512f"); }

#endif

static int has_plain(void) { return 1; }

typedef struct {
    const char *name;
    size_t lanes;
    int (*there)(void);
    Run *run;
} Variant;

static const Variant variants[] = { /* the fastest first */
#if defined(__x86_64__) || defined(__i386__)
    {"avx512", 32, has_avx512, run_avx512},
    {"avx2", 16, has_avx2, run_avx2},
#endif
    {"plain", 16, has_plain, run_plain},
};
#define VARIANTS (sizeof variants / sizeof variants[0])

/* Return the variant of this name, the fastest for NULL; NULL if this machine has none such. */
static const Variant *variant_of(const char *name)
{
    for (size_t i = 0; i < VARIANTS; i++)
        if (variants[i].there() && (name == NULL || strcmp(name, variants[i].name) == 0))
            return &variants[i];
    return NULL;
}

static void compute(const Variant *variant, const uint8_t *block, size_t stride, size_t length, size_t count,
                    uint8_t *out)
{
    size_t rest = count % variant->lanes;
    size_t grouped = rest < FEW ? count - rest : count;

    variant->run(block, stride, length, grouped, out);
    if (grouped < count)
        run_single(block + grouped * stride, stride, length, count - grouped, out + grouped * DIGEST);
}

static PyObject *md5_many(PyObject *module, PyObject *args)
{
    Py_buffer buffer;
    Py_ssize_t stride, length, count;
    const char *name = NULL;
    const Variant *variant;
    PyObject *out = NULL;

    (void)module;
    if (!PyArg_ParseTuple(args, "y*nnn|z:md5_many", &buffer, &stride, &length, &count, &name))
        return NULL;
    if (stride < 1 || length < 0 || count < 0)
        PyErr_SetString(PyExc_ValueError, "stride must be at least 1, length and count at least 0");
    else if (count > 0 && (length > buffer.len || count - 1 > (buffer.len - length) / stride))
        PyErr_SetString(PyExc_ValueError, "not all blocks are within the buffer");
    else if (count > PY_SSIZE_T_MAX / DIGEST)
        PyErr_NoMemory();
    else if ((variant = variant_of(name)) == NULL)
        PyErr_Format(PyExc_ValueError, "no variant %s here", name);
    else if ((out = PyBytes_FromStringAndSize(NULL, count * DIGEST)) != NULL && count > 0) {
        uint8_t *digests = (uint8_t *)PyBytes_AsString(out);
        int much = length >= AT_LEAST || (size_t)length * (size_t)count >= AT_LEAST;
        PyThreadState *ours = much ? PyEval_SaveThread() : NULL;

        compute(variant, buffer.buf, (size_t)stride, (size_t)length, (size_t)count, digests);
        if (ours != NULL)
            PyEval_RestoreThread(ours);
    }
    PyBuffer_Release(&buffer);
    return out;
}

static PyMethodDef methods[] = {
    {"md5_many", md5_many, METH_VARARGS,
     "md5_many(buffer, stride, length, count, variant=None)\n--\n\n"
     "Return the MD5s, joined, of `count` blocks of `length` bytes, one every `stride` bytes from the start."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_md5lanes",
    .m_doc = "VARIANTS: name -> lanes of what this machine can run, the fastest first.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__md5lanes(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyObject *found = PyDict_New();
    int failed = module == NULL || found == NULL;

    for (size_t i = 0; i < VARIANTS && !failed; i++) {
        if (!variants[i].there())
            continue;
        PyObject *lanes = PyLong_FromSize_t(variants[i].lanes);
        failed = lanes == NULL || PyDict_SetItemString(found, variants[i].name, lanes) < 0;
        Py_XDECREF(lanes);
    }
    failed = failed || PyModule_AddObjectRef(module, "VARIANTS", found) < 0;
    Py_XDECREF(found);
    if (failed)
        Py_CLEAR(module);
    return module;
}

#else /* one variant */

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define VECTOR JOIN(RUN, vector)
#define TAKE JOIN(RUN, take)

typedef uint32_t VECTOR __attribute__((vector_size(4 * LANES)));

/* Take the next CHUNK bytes of each lane into the four words of its state. */
static inline TARGET void TAKE(VECTOR state[4], const uint8_t *const lane[LANES], size_t at)
{
    uint32_t turned[CHUNK / 4][LANES];
    VECTOR words[CHUNK / 4];
    VECTOR a = state[0], b = state[1], c = state[2], d = state[3];

    for (size_t l = 0; l < LANES; l++) {
        uint32_t row[CHUNK / 4];

        memcpy(row, lane[l] + at, CHUNK);
        for (size_t w = 0; w < CHUNK / 4; w++)
            turned[w][l] = row[w];
    }
    memcpy(words, turned, sizeof words);
    ROUNDS
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
}

static TARGET void RUN(const uint8_t *block, size_t stride, size_t length, size_t count, uint8_t *out)
{
    const VECTOR zero = {0};
    const size_t whole = length / CHUNK * CHUNK, rest = length - whole;
    const size_t padded = rest + 9 <= CHUNK ? CHUNK : 2 * CHUNK; /* the rest, a bit, zeros, the length in bits */
    const uint64_t bits = (uint64_t)length * 8;

    for (size_t first = 0; first < count; first += LANES) {
        VECTOR state[4] = {zero + 0x67452301u, zero + 0xefcdab89u, zero + 0x98badcfeu, zero + 0x10325476u};
        uint8_t tail[LANES][2 * CHUNK] = {{0}};
        const uint8_t *lane[LANES], *end[LANES];

        for (size_t l = 0; l < LANES; l++) { /* lanes that are left over do the last block again */
            lane[l] = block + (first + l < count ? first + l : count - 1) * stride;
            end[l] = tail[l];
            memcpy(tail[l], lane[l] + whole, rest);
            tail[l][rest] = 0x80;
            memcpy(tail[l] + padded - sizeof bits, &bits, sizeof bits);
        }
        for (size_t at = 0; at < whole; at += CHUNK)
            TAKE(state, lane, at);
        for (size_t at = 0; at < padded; at += CHUNK)
            TAKE(state, end, at);
        for (size_t l = 0; l < LANES && first + l < count; l++) {
            const uint32_t words[4] = {state[0][l], state[1][l], state[2][l], state[3][l]};

            memcpy(out + (first + l) * DIGEST, words, DIGEST);
        }
    }
}

#undef JOIN_
#undef JOIN
#undef VECTOR
#undef TAKE
#undef LANES
#undef TARGET
#undef RUN

#endif
