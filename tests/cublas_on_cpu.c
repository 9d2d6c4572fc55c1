/* cuBLAS's calls that minigrad makes, on the CPU: for testing how they are called. */
#include <stddef.h>

int stream_set, workspace_set, mode = -1;

int cublasCreate_v2(void **handle) { *handle = &mode; return 0; }
int cublasDestroy_v2(void *handle) { return handle != &mode; }
int cublasSetMathMode(void *handle, int wanted) { if (handle != &mode) return 1; mode = wanted; return 0; }
int cublasSetStream_v2(void *handle, void *stream) { if (handle != &mode) return 1; stream_set = (int)(size_t)stream; return 0; }
int cublasSetWorkspace_v2(void *handle, void *memory, size_t bytes) {
    if (handle != &mode || !memory) return 7;
    workspace_set = (int)bytes;
    return 0;
}

#define GEMM(name, real)                                                                                              \
    int name(void *handle, int ta, int tb, int m, int n, int k, const real *alpha, const real *a, int lda,           \
             const real *b, int ldb, const real *beta, real *c, int ldc) {                                           \
        if (handle != &mode) return 1;                                                                                \
        if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return 7;                                            \
        for (int j = 0; j < n; j++)                                                                                   \
            for (int i = 0; i < m; i++) {                                                                             \
                real sum = 0;                                                                                         \
                for (int l = 0; l < k; l++)                                                                           \
                    sum += a[ta ? l + (size_t)i * lda : i + (size_t)l * lda] *                                        \
                           b[tb ? j + (size_t)l * ldb : l + (size_t)j * ldb];                                         \
                c[i + (size_t)j * ldc] = *alpha * sum + (*beta ? *beta * c[i + (size_t)j * ldc] : 0);                 \
            }                                                                                                         \
        return 0;                                                                                                     \
    }
GEMM(cublasSgemm_v2, float)
GEMM(cublasDgemm_v2, double)

/* Of 16-bit numbers only bfloat16, of which a conversion is a shift: which type is which is all that this can show. */
static float wide(const void *x, int kind, size_t at) {
    if (kind == 0) return ((const float *)x)[at];
    union { unsigned bits; float number; } both = {(unsigned)((const unsigned short *)x)[at] << 16};
    return both.number;
}

int cublasGemmEx(void *handle, int ta, int tb, int m, int n, int k, const float *alpha, const void *a, int a_kind, int lda,
                 const void *b, int b_kind, int ldb, const float *beta, void *c, int c_kind, int ldc, int compute,
                 int algorithm) {
    if (handle != &mode) return 1;
    if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return 7;
    if (a_kind != 14 || b_kind != 14 || (c_kind != 14 && c_kind != 0) || compute != 68 || algorithm != -1) return 15;
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            float sum = 0;
            for (int l = 0; l < k; l++)
                sum += wide(a, a_kind, ta ? l + (size_t)i * lda : i + (size_t)l * lda) *
                       wide(b, b_kind, tb ? j + (size_t)l * ldb : l + (size_t)j * ldb);
            const size_t at = i + (size_t)j * ldc;
            union { float number; unsigned bits; } all = {*alpha * sum + (*beta ? *beta * wide(c, c_kind, at) : 0)};
            if (c_kind == 0) ((float *)c)[at] = all.number;
            else ((unsigned short *)c)[at] = (unsigned short)((all.bits + 0x7fff + (all.bits >> 16 & 1)) >> 16);
        }
    return 0;
}
