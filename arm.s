	.file	"TVMMod"
	.text
	.globl	__tvm_ffi_k
	.p2align	4
	.type	__tvm_ffi_k,@function
__tvm_ffi_k:
.Lfunc_begin0:
	.file	1 "." "IRModule.CodeGenLLVM"
	.loc	1 0 0
	.cfi_startproc
	str	x30, [sp, #-16]!
	.cfi_def_cfa_offset 16
	.cfi_offset w30, -16
.Ltmp0:
	cmp	w2, #4
	b.ne	.LBB0_72
.Ltmp1:
	cbz	x1, .LBB0_73
.Ltmp2:
	ldr	w8, [x1]
.Ltmp3:
	cmp	w8, #63
	b.le	.LBB0_7
.Ltmp4:
	cmp	w8, #70
	b.ne	.LBB0_9
.Ltmp5:
	ldr	x8, [x1, #8]
.Ltmp6:
	add	x8, x8, #24
	ldr	w9, [x1, #16]
.Ltmp7:
	cmp	w9, #63
	b.gt	.LBB0_10
.Ltmp8:
.LBB0_5:
	cmp	w9, #7
	b.hi	.LBB0_68
.Ltmp9:
	mov	w10, #1
	lsl	w9, w10, w9
.Ltmp10:
	mov	w10, #145
	tst	w9, w10
	b.ne	.LBB0_14
	b	.LBB0_68
.Ltmp11:
.LBB0_7:
	cmp	w8, #7
	b.hi	.LBB0_67
.Ltmp12:
	mov	w9, #1
	lsl	w8, w9, w8
.Ltmp13:
	mov	w9, #145
	tst	w8, w9
	b.eq	.LBB0_67
.Ltmp14:
.LBB0_9:
	ldr	x8, [x1, #8]
	ldr	w9, [x1, #16]
.Ltmp15:
	cmp	w9, #63
	b.le	.LBB0_5
.Ltmp16:
.LBB0_10:
	cmp	w9, #70
	b.ne	.LBB0_14
.Ltmp17:
	ldr	x9, [x1, #24]
.Ltmp18:
	add	x9, x9, #24
	ldr	w10, [x1, #32]
.Ltmp19:
	cmp	w10, #63
	b.gt	.LBB0_15
.Ltmp20:
.LBB0_12:
	cmp	w10, #7
	b.hi	.LBB0_69
.Ltmp21:
	mov	w11, #1
	lsl	w10, w11, w10
.Ltmp22:
	mov	w11, #145
	tst	w10, w11
	b.ne	.LBB0_19
	b	.LBB0_69
.Ltmp23:
.LBB0_14:
	ldr	x9, [x1, #24]
	ldr	w10, [x1, #32]
.Ltmp24:
	cmp	w10, #63
	b.le	.LBB0_12
.Ltmp25:
.LBB0_15:
	cmp	w10, #70
	b.ne	.LBB0_19
.Ltmp26:
	ldr	x10, [x1, #40]
.Ltmp27:
	add	x10, x10, #24
	ldr	w11, [x1, #48]
.Ltmp28:
	cmp	w11, #63
	b.gt	.LBB0_20
.Ltmp29:
.LBB0_17:
	cmp	w11, #7
	b.hi	.LBB0_70
.Ltmp30:
	mov	w12, #1
	lsl	w11, w12, w11
.Ltmp31:
	mov	w12, #145
	tst	w11, w12
	b.ne	.LBB0_22
	b	.LBB0_70
.Ltmp32:
.LBB0_19:
	ldr	x10, [x1, #40]
	ldr	w11, [x1, #48]
.Ltmp33:
	cmp	w11, #63
	b.le	.LBB0_17
.Ltmp34:
.LBB0_20:
	cmp	w11, #70
	b.ne	.LBB0_22
.Ltmp35:
	ldr	x11, [x1, #56]
.Ltmp36:
	add	x11, x11, #24
	b	.LBB0_23
.Ltmp37:
.LBB0_22:
	ldr	x11, [x1, #56]
.Ltmp38:
.LBB0_23:
	cbz	x8, .LBB0_67
.Ltmp39:
	ldr	w12, [x8, #16]
	cmp	w12, #1
	b.ne	.LBB0_74
.Ltmp40:
	ldrh	w12, [x8, #22]
	cmp	w12, #1
	b.ne	.LBB0_75
.Ltmp41:
	ldrb	w12, [x8, #21]
	cmp	w12, #32
	b.ne	.LBB0_75
.Ltmp42:
	ldrb	w12, [x8, #20]
	cmp	w12, #2
	b.ne	.LBB0_75
.Ltmp43:
	ldr	w12, [x8, #8]
	cmp	w12, #1
	b.ne	.LBB0_76
.Ltmp44:
	cbz	x9, .LBB0_68
.Ltmp45:
	ldr	w12, [x9, #16]
	cmp	w12, #1
	b.ne	.LBB0_77
.Ltmp46:
	ldrh	w12, [x9, #22]
	cmp	w12, #1
	b.ne	.LBB0_78
.Ltmp47:
	ldrb	w12, [x9, #21]
	cmp	w12, #32
	b.ne	.LBB0_78
.Ltmp48:
	ldrb	w12, [x9, #20]
	cmp	w12, #2
	b.ne	.LBB0_78
.Ltmp49:
	ldr	w12, [x9, #8]
	cmp	w12, #1
	b.ne	.LBB0_79
.Ltmp50:
	cbz	x10, .LBB0_69
.Ltmp51:
	ldr	w12, [x10, #16]
	cmp	w12, #1
	b.ne	.LBB0_80
.Ltmp52:
	ldrh	w12, [x10, #22]
	cmp	w12, #1
	b.ne	.LBB0_81
.Ltmp53:
	ldrb	w12, [x10, #21]
	cmp	w12, #32
	b.ne	.LBB0_81
.Ltmp54:
	ldrb	w12, [x10, #20]
	cmp	w12, #2
	b.ne	.LBB0_81
.Ltmp55:
	ldr	w12, [x10, #8]
	cmp	w12, #1
	b.ne	.LBB0_82
.Ltmp56:
	cbz	x11, .LBB0_70
.Ltmp57:
	ldr	w12, [x11, #16]
	cmp	w12, #1
	b.ne	.LBB0_83
.Ltmp58:
	ldrh	w12, [x11, #22]
	cmp	w12, #1
	b.ne	.LBB0_85
.Ltmp59:
	ldrb	w12, [x11, #21]
	cmp	w12, #32
	b.ne	.LBB0_85
.Ltmp60:
	ldrb	w12, [x11, #20]
	cmp	w12, #2
	b.ne	.LBB0_85
.Ltmp61:
	ldr	w12, [x11, #8]
	cmp	w12, #1
	b.ne	.LBB0_87
.Ltmp62:
	ldp	x4, x0, [x8, #24]
.Ltmp63:
	ldr	x12, [x8, #40]
	ldr	w3, [x8, #12]
.Ltmp64:
	ldp	x18, x1, [x9, #24]
.Ltmp65:
	ldr	x13, [x9, #40]
	ldp	x17, x2, [x10, #24]
.Ltmp66:
	ldr	x14, [x10, #40]
	ldp	x16, x5, [x11, #24]
.Ltmp67:
	ldr	x15, [x11, #40]
.Ltmp68:
	cbz	x0, .LBB0_49
.Ltmp69:
	ldr	w0, [x0]
.Ltmp70:
	cmp	w0, #1
	b.ne	.LBB0_89
.Ltmp71:
.LBB0_49:
	ldr	x0, [x8]
	cbz	x0, .LBB0_90
.Ltmp72:
	cbz	x1, .LBB0_52
.Ltmp73:
	ldr	w8, [x1]
	cmp	w8, #1
	b.ne	.LBB0_91
.Ltmp74:
.LBB0_52:
	ldr	w8, [x9, #12]
	cmp	w3, w8
	b.ne	.LBB0_92
.Ltmp75:
	ldr	x1, [x9]
.Ltmp76:
	cbz	x1, .LBB0_93
.Ltmp77:
	cbz	x2, .LBB0_56
.Ltmp78:
	ldr	w8, [x2]
	cmp	w8, #1
	b.ne	.LBB0_94
.Ltmp79:
.LBB0_56:
	ldr	w8, [x10, #12]
	cmp	w3, w8
	b.ne	.LBB0_95
.Ltmp80:
	ldr	x2, [x10]
.Ltmp81:
	cbz	x2, .LBB0_96
.Ltmp82:
	cbz	x5, .LBB0_60
.Ltmp83:
	ldr	w8, [x5]
	cmp	w8, #1
	b.ne	.LBB0_97
.Ltmp84:
.LBB0_60:
	ldr	w8, [x11, #12]
	cmp	w3, w8
	b.ne	.LBB0_99
.Ltmp85:
	ldr	x3, [x11]
.Ltmp86:
	cbz	x3, .LBB0_101
.Ltmp87:
	ldr	w8, [x4]
	cmp	w8, #16, lsl #12
	b.ne	.LBB0_104
.Ltmp88:
	ldr	w8, [x18]
	cmp	w8, #256
	b.ne	.LBB0_105
.Ltmp89:
	ldr	w9, [x17]
	mov	w8, #50176
	cmp	w9, w8
	b.ne	.LBB0_106
.Ltmp90:
	ldr	w9, [x16]
	cmp	w9, w8
	b.ne	.LBB0_107
.Ltmp91:
	lsr	x6, x12, #2
	lsr	x4, x13, #2
.Ltmp92:
	lsr	x5, x14, #2
.Ltmp93:
	lsr	x7, x15, #2
.Ltmp94:
	ldr	x30, [sp], #16
	b	k_compute_
.Ltmp95:
.LBB0_67:
	adrp	x0, .L.str
	add	x0, x0, :lo12:.L.str
	adrp	x2, .L.str.8
.Ltmp96:
	add	x2, x2, :lo12:.L.str.8
	adrp	x3, .L.str.9
	add	x3, x3, :lo12:.L.str.9
	b	.LBB0_71
.Ltmp97:
.LBB0_68:
	adrp	x0, .L.str
	add	x0, x0, :lo12:.L.str
	adrp	x2, .L.str.8
.Ltmp98:
	add	x2, x2, :lo12:.L.str.8
	adrp	x3, .L.str.12
	add	x3, x3, :lo12:.L.str.12
	b	.LBB0_71
.Ltmp99:
.LBB0_69:
	adrp	x0, .L.str
	add	x0, x0, :lo12:.L.str
	adrp	x2, .L.str.8
.Ltmp100:
	add	x2, x2, :lo12:.L.str.8
	adrp	x3, .L.str.13
	add	x3, x3, :lo12:.L.str.13
	b	.LBB0_71
.Ltmp101:
.LBB0_70:
	adrp	x0, .L.str
	add	x0, x0, :lo12:.L.str
	adrp	x2, .L.str.8
.Ltmp102:
	add	x2, x2, :lo12:.L.str.8
	adrp	x3, .L.str.14
	add	x3, x3, :lo12:.L.str.14
.Ltmp103:
.LBB0_71:
	adrp	x4, .L.str.4
	add	x4, x4, :lo12:.L.str.4
	adrp	x5, .L.str.5
	add	x5, x5, :lo12:.L.str.5
	adrp	x6, .L.str.10
	add	x6, x6, :lo12:.L.str.10
	adrp	x7, .L.str.11
	add	x7, x7, :lo12:.L.str.11
	b	.LBB0_103
.Ltmp104:
.LBB0_72:
	adrp	x0, .L.str
	add	x0, x0, :lo12:.L.str
	adrp	x2, .L.str.1
.Ltmp105:
	add	x2, x2, :lo12:.L.str.1
	adrp	x3, .L.str.2
	add	x3, x3, :lo12:.L.str.2
	adrp	x4, .L.str.3
	add	x4, x4, :lo12:.L.str.3
	adrp	x5, .L.str.4
	add	x5, x5, :lo12:.L.str.4
	adrp	x6, .L.str.5
	add	x6, x6, :lo12:.L.str.5
	adrp	x7, .L.str.6
	add	x7, x7, :lo12:.L.str.6
	b	.LBB0_103
.Ltmp106:
.LBB0_73:
	adrp	x0, .L.str
	add	x0, x0, :lo12:.L.str
	adrp	x2, .L.str.7
.Ltmp107:
	add	x2, x2, :lo12:.L.str.7
	adrp	x3, .L.str.4
	add	x3, x3, :lo12:.L.str.4
	adrp	x4, .L.str.5
	add	x4, x4, :lo12:.L.str.5
	adrp	x5, .L.str.6
	add	x5, x5, :lo12:.L.str.6
	mov	w1, #4
.Ltmp108:
	mov	x6, xzr
	mov	x7, xzr
	bl	__tvm_set_raised_6
	mov	w0, #-1
	ldr	x30, [sp], #16
	ret
.Ltmp109:
.LBB0_74:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.16
.Ltmp110:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.17
	add	x3, x3, :lo12:.L.str.17
	adrp	x4, .L.str.18
	add	x4, x4, :lo12:.L.str.18
	adrp	x5, .L.str.9
	add	x5, x5, :lo12:.L.str.9
	b	.LBB0_84
.Ltmp111:
.LBB0_75:
	adrp	x0, .L.str
	add	x0, x0, :lo12:.L.str
	adrp	x2, .L.str.16
.Ltmp112:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.17
	add	x3, x3, :lo12:.L.str.17
	adrp	x4, .L.str.19
	add	x4, x4, :lo12:.L.str.19
	adrp	x5, .L.str.9
	add	x5, x5, :lo12:.L.str.9
	b	.LBB0_86
.Ltmp113:
.LBB0_76:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.16
.Ltmp114:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.17
	add	x3, x3, :lo12:.L.str.17
	adrp	x4, .L.str.21
	add	x4, x4, :lo12:.L.str.21
	adrp	x5, .L.str.9
	add	x5, x5, :lo12:.L.str.9
	b	.LBB0_88
.Ltmp115:
.LBB0_77:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.16
.Ltmp116:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.23
	add	x3, x3, :lo12:.L.str.23
	adrp	x4, .L.str.18
	add	x4, x4, :lo12:.L.str.18
	adrp	x6, .L.str.10
	add	x6, x6, :lo12:.L.str.10
	adrp	x5, .L.str.12
	add	x5, x5, :lo12:.L.str.12
	mov	w1, #8
.Ltmp117:
	mov	x7, x5
	bl	__tvm_set_raised_12
	mov	w0, #-1
	ldr	x30, [sp], #16
	ret
.Ltmp118:
.LBB0_78:
	adrp	x0, .L.str
	add	x0, x0, :lo12:.L.str
	adrp	x2, .L.str.16
.Ltmp119:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.23
	add	x3, x3, :lo12:.L.str.23
	adrp	x4, .L.str.19
	add	x4, x4, :lo12:.L.str.19
	adrp	x5, .L.str.12
	add	x5, x5, :lo12:.L.str.12
	b	.LBB0_86
.Ltmp120:
.LBB0_79:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.16
.Ltmp121:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.23
	add	x3, x3, :lo12:.L.str.23
	adrp	x4, .L.str.21
	add	x4, x4, :lo12:.L.str.21
	adrp	x5, .L.str.12
	add	x5, x5, :lo12:.L.str.12
	b	.LBB0_88
.Ltmp122:
.LBB0_80:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.16
.Ltmp123:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.24
	add	x3, x3, :lo12:.L.str.24
	adrp	x4, .L.str.18
	add	x4, x4, :lo12:.L.str.18
	adrp	x5, .L.str.13
	add	x5, x5, :lo12:.L.str.13
	b	.LBB0_84
.Ltmp124:
.LBB0_81:
	adrp	x0, .L.str
	add	x0, x0, :lo12:.L.str
	adrp	x2, .L.str.16
.Ltmp125:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.24
	add	x3, x3, :lo12:.L.str.24
	adrp	x4, .L.str.19
	add	x4, x4, :lo12:.L.str.19
	adrp	x5, .L.str.13
	add	x5, x5, :lo12:.L.str.13
	b	.LBB0_86
.Ltmp126:
.LBB0_82:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.16
.Ltmp127:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.24
	add	x3, x3, :lo12:.L.str.24
	adrp	x4, .L.str.21
	add	x4, x4, :lo12:.L.str.21
	adrp	x5, .L.str.13
	add	x5, x5, :lo12:.L.str.13
	b	.LBB0_88
.Ltmp128:
.LBB0_83:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.16
.Ltmp129:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.25
	add	x3, x3, :lo12:.L.str.25
	adrp	x4, .L.str.18
	add	x4, x4, :lo12:.L.str.18
	adrp	x5, .L.str.14
	add	x5, x5, :lo12:.L.str.14
.Ltmp130:
.LBB0_84:
	adrp	x6, .L.str.10
	add	x6, x6, :lo12:.L.str.10
	adrp	x7, .L.str.12
	add	x7, x7, :lo12:.L.str.12
	mov	w1, #8
.Ltmp131:
	bl	__tvm_set_raised_12
	mov	w0, #-1
	ldr	x30, [sp], #16
	ret
.Ltmp132:
.LBB0_85:
	adrp	x0, .L.str
	add	x0, x0, :lo12:.L.str
	adrp	x2, .L.str.16
.Ltmp133:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.25
	add	x3, x3, :lo12:.L.str.25
	adrp	x4, .L.str.19
	add	x4, x4, :lo12:.L.str.19
	adrp	x5, .L.str.14
	add	x5, x5, :lo12:.L.str.14
.Ltmp134:
.LBB0_86:
	adrp	x6, .L.str.10
	add	x6, x6, :lo12:.L.str.10
	adrp	x7, .L.str.20
	add	x7, x7, :lo12:.L.str.20
	mov	w1, #8
.Ltmp135:
	bl	__tvm_set_raised_12
	mov	w0, #-1
	ldr	x30, [sp], #16
	ret
.Ltmp136:
.LBB0_87:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.16
.Ltmp137:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.25
	add	x3, x3, :lo12:.L.str.25
	adrp	x4, .L.str.21
	add	x4, x4, :lo12:.L.str.21
	adrp	x5, .L.str.14
	add	x5, x5, :lo12:.L.str.14
.Ltmp138:
.LBB0_88:
	adrp	x6, .L.str.10
	add	x6, x6, :lo12:.L.str.10
	adrp	x7, .L.str.22
	add	x7, x7, :lo12:.L.str.22
	mov	w1, #8
.Ltmp139:
	bl	__tvm_set_raised_12
	mov	w0, #-1
	ldr	x30, [sp], #16
	ret
.Ltmp140:
.LBB0_89:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.16
.Ltmp141:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.17
.Ltmp142:
	add	x3, x3, :lo12:.L.str.17
	adrp	x4, .L.str.26
.Ltmp143:
	add	x4, x4, :lo12:.L.str.26
	adrp	x5, .L.str.9
.Ltmp144:
	add	x5, x5, :lo12:.L.str.9
	b	.LBB0_98
.Ltmp145:
.LBB0_90:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.17
.Ltmp146:
	add	x2, x2, :lo12:.L.str.17
	adrp	x3, .L.str.28
.Ltmp147:
	add	x3, x3, :lo12:.L.str.28
	adrp	x4, .L.str.9
.Ltmp148:
	add	x4, x4, :lo12:.L.str.9
	b	.LBB0_102
.Ltmp149:
.LBB0_91:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.16
.Ltmp150:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.23
.Ltmp151:
	add	x3, x3, :lo12:.L.str.23
	adrp	x4, .L.str.26
.Ltmp152:
	add	x4, x4, :lo12:.L.str.26
	adrp	x5, .L.str.12
.Ltmp153:
	add	x5, x5, :lo12:.L.str.12
	b	.LBB0_98
.Ltmp154:
.LBB0_92:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.16
.Ltmp155:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.30
.Ltmp156:
	add	x3, x3, :lo12:.L.str.30
	adrp	x4, .L.str.31
.Ltmp157:
	add	x4, x4, :lo12:.L.str.31
	adrp	x5, .L.str.12
.Ltmp158:
	add	x5, x5, :lo12:.L.str.12
	b	.LBB0_100
.Ltmp159:
.LBB0_93:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.23
.Ltmp160:
	add	x2, x2, :lo12:.L.str.23
	adrp	x3, .L.str.28
.Ltmp161:
	add	x3, x3, :lo12:.L.str.28
	adrp	x4, .L.str.12
.Ltmp162:
	add	x4, x4, :lo12:.L.str.12
	b	.LBB0_102
.Ltmp163:
.LBB0_94:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.16
.Ltmp164:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.24
.Ltmp165:
	add	x3, x3, :lo12:.L.str.24
	adrp	x4, .L.str.26
.Ltmp166:
	add	x4, x4, :lo12:.L.str.26
	adrp	x5, .L.str.13
.Ltmp167:
	add	x5, x5, :lo12:.L.str.13
	b	.LBB0_98
.Ltmp168:
.LBB0_95:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.16
.Ltmp169:
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.34
.Ltmp170:
	add	x3, x3, :lo12:.L.str.34
	adrp	x4, .L.str.31
.Ltmp171:
	add	x4, x4, :lo12:.L.str.31
	adrp	x5, .L.str.13
.Ltmp172:
	add	x5, x5, :lo12:.L.str.13
	b	.LBB0_100
.Ltmp173:
.LBB0_96:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.24
	add	x2, x2, :lo12:.L.str.24
	adrp	x3, .L.str.28
.Ltmp174:
	add	x3, x3, :lo12:.L.str.28
	adrp	x4, .L.str.13
.Ltmp175:
	add	x4, x4, :lo12:.L.str.13
	b	.LBB0_102
.Ltmp176:
.LBB0_97:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.16
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.25
.Ltmp177:
	add	x3, x3, :lo12:.L.str.25
	adrp	x4, .L.str.26
.Ltmp178:
	add	x4, x4, :lo12:.L.str.26
	adrp	x5, .L.str.14
.Ltmp179:
	add	x5, x5, :lo12:.L.str.14
.Ltmp180:
.LBB0_98:
	adrp	x6, .L.str.27
	add	x6, x6, :lo12:.L.str.27
	mov	w1, #7
	mov	x7, xzr
	bl	__tvm_set_raised_12
.Ltmp181:
	mov	w0, #-1
	ldr	x30, [sp], #16
	ret
.Ltmp182:
.LBB0_99:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.16
	add	x2, x2, :lo12:.L.str.16
	adrp	x3, .L.str.35
.Ltmp183:
	add	x3, x3, :lo12:.L.str.35
	adrp	x4, .L.str.31
.Ltmp184:
	add	x4, x4, :lo12:.L.str.31
	adrp	x5, .L.str.14
.Ltmp185:
	add	x5, x5, :lo12:.L.str.14
.Ltmp186:
.LBB0_100:
	adrp	x6, .L.str.32
	add	x6, x6, :lo12:.L.str.32
	adrp	x7, .L.str.33
	add	x7, x7, :lo12:.L.str.33
	mov	w1, #8
	bl	__tvm_set_raised_12
.Ltmp187:
	mov	w0, #-1
	ldr	x30, [sp], #16
	ret
.Ltmp188:
.LBB0_101:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.25
	add	x2, x2, :lo12:.L.str.25
	adrp	x3, .L.str.28
	add	x3, x3, :lo12:.L.str.28
	adrp	x4, .L.str.14
.Ltmp189:
	add	x4, x4, :lo12:.L.str.14
.Ltmp190:
.LBB0_102:
	adrp	x5, .L.str.4
.Ltmp191:
	add	x5, x5, :lo12:.L.str.4
	adrp	x6, .L.str.5
	add	x6, x6, :lo12:.L.str.5
	adrp	x7, .L.str.29
	add	x7, x7, :lo12:.L.str.29
.Ltmp192:
.LBB0_103:
	mov	w1, #6
	bl	__tvm_set_raised_6
	mov	w0, #-1
	ldr	x30, [sp], #16
	ret
.Ltmp193:
.LBB0_104:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.36
	add	x2, x2, :lo12:.L.str.36
	adrp	x3, .L.str.37
	add	x3, x3, :lo12:.L.str.37
	adrp	x4, .L.str.31
.Ltmp194:
	add	x4, x4, :lo12:.L.str.31
	adrp	x5, .L.str.9
.Ltmp195:
	add	x5, x5, :lo12:.L.str.9
	adrp	x6, .L.str.10
	add	x6, x6, :lo12:.L.str.10
	adrp	x7, .L.str.38
	add	x7, x7, :lo12:.L.str.38
	mov	w1, #8
	bl	__tvm_set_raised_12
.Ltmp196:
	mov	w0, #-1
	ldr	x30, [sp], #16
	ret
.Ltmp197:
.LBB0_105:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.36
	add	x2, x2, :lo12:.L.str.36
	adrp	x3, .L.str.39
	add	x3, x3, :lo12:.L.str.39
	adrp	x4, .L.str.31
.Ltmp198:
	add	x4, x4, :lo12:.L.str.31
	adrp	x5, .L.str.12
.Ltmp199:
	add	x5, x5, :lo12:.L.str.12
	adrp	x6, .L.str.10
	add	x6, x6, :lo12:.L.str.10
	adrp	x7, .L.str.40
	add	x7, x7, :lo12:.L.str.40
	mov	w1, #8
	bl	__tvm_set_raised_12
.Ltmp200:
	mov	w0, #-1
	ldr	x30, [sp], #16
	ret
.Ltmp201:
.LBB0_106:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.36
	add	x2, x2, :lo12:.L.str.36
	adrp	x3, .L.str.41
	add	x3, x3, :lo12:.L.str.41
	adrp	x4, .L.str.31
.Ltmp202:
	add	x4, x4, :lo12:.L.str.31
	adrp	x5, .L.str.13
.Ltmp203:
	add	x5, x5, :lo12:.L.str.13
	b	.LBB0_108
.Ltmp204:
.LBB0_107:
	adrp	x0, .L.str.15
	add	x0, x0, :lo12:.L.str.15
	adrp	x2, .L.str.36
	add	x2, x2, :lo12:.L.str.36
	adrp	x3, .L.str.43
	add	x3, x3, :lo12:.L.str.43
	adrp	x4, .L.str.31
.Ltmp205:
	add	x4, x4, :lo12:.L.str.31
	adrp	x5, .L.str.14
.Ltmp206:
	add	x5, x5, :lo12:.L.str.14
.Ltmp207:
.LBB0_108:
	adrp	x6, .L.str.10
	add	x6, x6, :lo12:.L.str.10
	adrp	x7, .L.str.42
	add	x7, x7, :lo12:.L.str.42
	mov	w1, #8
	bl	__tvm_set_raised_12
.Ltmp208:
	mov	w0, #-1
	ldr	x30, [sp], #16
	ret
.Ltmp209:
.Lfunc_end0:
	.size	__tvm_ffi_k, .Lfunc_end0-__tvm_ffi_k
	.cfi_endproc

	.p2align	4
	.type	__tvm_set_raised_6,@function
__tvm_set_raised_6:
.Lfunc_begin1:
	.cfi_startproc
	sub	sp, sp, #64
	stp	x7, x30, [sp, #40]
	.cfi_def_cfa_offset 64
	.cfi_offset w30, -16
	mov	w8, w1
	stp	x2, x3, [sp]
	stp	x4, x5, [sp, #16]
	str	x6, [sp, #32]
	mov	x1, sp
	mov	w2, w8
	bl	TVMFFIErrorSetRaisedFromCStrParts
	ldr	x30, [sp, #48]
	add	sp, sp, #64
	ret
.Lfunc_end1:
	.size	__tvm_set_raised_6, .Lfunc_end1-__tvm_set_raised_6
	.cfi_endproc

	.p2align	4
	.type	__tvm_set_raised_12,@function
__tvm_set_raised_12:
.Lfunc_begin2:
	.cfi_startproc
	sub	sp, sp, #112
	str	x30, [sp, #96]
	.cfi_def_cfa_offset 112
	.cfi_offset w30, -16
	mov	w8, w1
	stp	x2, x3, [sp]
	adrp	x9, .L.str.4
	add	x9, x9, :lo12:.L.str.4
	adrp	x10, .L.str.5
	add	x10, x10, :lo12:.L.str.5
	stp	x4, x5, [sp, #16]
	stp	x9, x10, [sp, #32]
	stp	x6, x7, [sp, #48]
	movi	v0.2d, #0000000000000000
	stp	q0, q0, [sp, #64]
	mov	x1, sp
	mov	w2, w8
	bl	TVMFFIErrorSetRaisedFromCStrParts
	ldr	x30, [sp, #96]
	add	sp, sp, #112
	ret
.Lfunc_end2:
	.size	__tvm_set_raised_12, .Lfunc_end2-__tvm_set_raised_12
	.cfi_endproc

	.p2align	4
	.type	k_compute_,@function
k_compute_:
.Lfunc_begin3:
	.loc	1 0 0
	.cfi_startproc
	sub	sp, sp, #144
	str	x30, [sp, #64]
	stp	x26, x25, [sp, #80]
	stp	x24, x23, [sp, #96]
	stp	x22, x21, [sp, #112]
	stp	x20, x19, [sp, #128]
	.cfi_def_cfa_offset 144
	.cfi_offset w19, -8
	.cfi_offset w20, -16
	.cfi_offset w21, -24
	.cfi_offset w22, -32
	.cfi_offset w23, -40
	.cfi_offset w24, -48
	.cfi_offset w25, -56
	.cfi_offset w26, -64
	.cfi_offset w30, -80
.Ltmp210:
	mov	w19, w7
.Ltmp211:
	mov	w23, w6
.Ltmp212:
	mov	w20, w5
.Ltmp213:
	mov	w24, w4
.Ltmp214:
	mov	x21, x3
.Ltmp215:
	mov	x22, x2
.Ltmp216:
	mov	x26, x1
.Ltmp217:
	mov	x25, x0
.Ltmp218:
	str	w4, [sp]
	str	x1, [sp, #8]
	str	w5, [sp, #16]
	str	x2, [sp, #24]
	str	w6, [sp, #32]
	str	x0, [sp, #40]
	adrp	x8, :got:__TVMBackendParallelLaunch
	ldr	x8, [x8, :got_lo12:__TVMBackendParallelLaunch]
	str	w7, [sp, #48]
	ldr	x8, [x8]
	str	x3, [sp, #56]
	adrp	x0, .L__tvm_parallel_lambda
	add	x0, x0, :lo12:.L__tvm_parallel_lambda
	mov	x1, sp
	mov	w2, wzr
	blr	x8
	cbnz	w0, .LBB3_8
.Ltmp219:
	mov	x8, xzr
	add	x13, x26, w24, sxtw #2
	add	x9, x25, w23, sxtw #2
	add	x9, x9, #63, lsl #12
	add	w10, w20, #28
	mov	w11, #56
	mov	w12, #960
	movk	w12, #3, lsl #16
	ldr	q0, [x13, #1008]
.Ltmp220:
	mov	w13, #976
	movk	w13, #3, lsl #16
	mov	w14, #992
	movk	w14, #3, lsl #16
	movi	v1.2d, #0000000000000000
	mov	w15, #1008
	movk	w15, #3, lsl #16
	mov	w16, #1024
	movk	w16, #3, lsl #16
	mov	w17, #1040
	movk	w17, #3, lsl #16
	mov	w18, #1056
	movk	w18, #3, lsl #16
.Ltmp221:
	.p2align	5, , 16
.LBB3_2:
	mov	x1, x9
	mov	w2, w20
	madd	w0, w8, w11, w19
.Ltmp222:
	mov	w3, #64
	mov	v16.16b, v0.16b
	mov	v7.16b, v0.16b
	mov	v6.16b, v0.16b
	mov	v5.16b, v0.16b
	mov	v4.16b, v0.16b
	mov	v3.16b, v0.16b
	mov	v2.16b, v0.16b
.Ltmp223:
	.p2align	5, , 16
.LBB3_3:
	add	x4, x22, w2, sxtw #2
	ldp	q18, q17, [x4]
.Ltmp224:
	ldp	q19, q20, [x1]
.Ltmp225:
	fmla	v16.4s, v19.4s, v18.s[0]
.Ltmp226:
	ldp	q21, q22, [x4, #32]
.Ltmp227:
	ldp	q23, q24, [x4, #64]
.Ltmp228:
	fmla	v7.4s, v19.4s, v17.s[0]
	fmla	v6.4s, v19.4s, v21.s[0]
	fmla	v5.4s, v19.4s, v22.s[0]
	fmla	v4.4s, v19.4s, v23.s[0]
	fmla	v3.4s, v19.4s, v24.s[0]
	ldr	q25, [x4, #96]
.Ltmp229:
	fmla	v2.4s, v19.4s, v25.s[0]
	fmla	v16.4s, v20.4s, v18.s[1]
.Ltmp230:
	fmla	v7.4s, v20.4s, v17.s[1]
	fmla	v6.4s, v20.4s, v21.s[1]
	fmla	v5.4s, v20.4s, v22.s[1]
	fmla	v4.4s, v20.4s, v23.s[1]
	fmla	v3.4s, v20.4s, v24.s[1]
	fmla	v2.4s, v20.4s, v25.s[1]
	ldp	q19, q20, [x1, #32]
.Ltmp231:
	fmla	v16.4s, v19.4s, v18.s[2]
.Ltmp232:
	fmla	v7.4s, v19.4s, v17.s[2]
	fmla	v6.4s, v19.4s, v21.s[2]
	fmla	v5.4s, v19.4s, v22.s[2]
	fmla	v4.4s, v19.4s, v23.s[2]
	fmla	v3.4s, v19.4s, v24.s[2]
	fmla	v2.4s, v19.4s, v25.s[2]
	fmla	v16.4s, v20.4s, v18.s[3]
.Ltmp233:
	fmla	v7.4s, v20.4s, v17.s[3]
	fmla	v6.4s, v20.4s, v21.s[3]
	fmla	v5.4s, v20.4s, v22.s[3]
	fmla	v4.4s, v20.4s, v23.s[3]
	fmla	v3.4s, v20.4s, v24.s[3]
	subs	x3, x3, #1
.Ltmp234:
	add	w2, w2, #784
	add	x1, x1, #64
	fmla	v2.4s, v20.4s, v25.s[3]
.Ltmp235:
	b.ne	.LBB3_3
.Ltmp236:
	fmax	v16.4s, v16.4s, v1.4s
.Ltmp237:
	fmax	v7.4s, v7.4s, v1.4s
.Ltmp238:
	fmax	v6.4s, v6.4s, v1.4s
.Ltmp239:
	add	x2, x21, w0, sxtw #2
	fmax	v5.4s, v5.4s, v1.4s
.Ltmp240:
	str	q16, [x2, x12]
	str	q7, [x2, x13]
	str	q6, [x2, x14]
	fmax	v4.4s, v4.4s, v1.4s
.Ltmp241:
	str	q5, [x2, x15]
	fmax	v3.4s, v3.4s, v1.4s
.Ltmp242:
	str	q4, [x2, x16]
	str	q3, [x2, x17]
	mov	x1, x9
	fmax	v2.4s, v2.4s, v1.4s
.Ltmp243:
	str	q2, [x2, x18]
.Ltmp244:
	mov	w2, w10
	mov	w3, #64
	mov	v16.16b, v0.16b
	mov	v7.16b, v0.16b
	mov	v6.16b, v0.16b
	mov	v5.16b, v0.16b
	mov	v4.16b, v0.16b
	mov	v3.16b, v0.16b
	mov	v2.16b, v0.16b
.Ltmp245:
	.p2align	5, , 16
.LBB3_5:
	add	x4, x22, w2, sxtw #2
	ldp	q18, q17, [x4]
.Ltmp246:
	ldp	q19, q20, [x1]
.Ltmp247:
	fmla	v16.4s, v19.4s, v18.s[0]
.Ltmp248:
	ldp	q21, q22, [x4, #32]
.Ltmp249:
	ldp	q23, q24, [x4, #64]
.Ltmp250:
	fmla	v7.4s, v19.4s, v17.s[0]
	fmla	v6.4s, v19.4s, v21.s[0]
	fmla	v5.4s, v19.4s, v22.s[0]
	fmla	v4.4s, v19.4s, v23.s[0]
	fmla	v3.4s, v19.4s, v24.s[0]
	ldr	q25, [x4, #96]
.Ltmp251:
	fmla	v2.4s, v19.4s, v25.s[0]
	fmla	v16.4s, v20.4s, v18.s[1]
.Ltmp252:
	fmla	v7.4s, v20.4s, v17.s[1]
	fmla	v6.4s, v20.4s, v21.s[1]
	fmla	v5.4s, v20.4s, v22.s[1]
	fmla	v4.4s, v20.4s, v23.s[1]
	fmla	v3.4s, v20.4s, v24.s[1]
	fmla	v2.4s, v20.4s, v25.s[1]
	ldp	q19, q20, [x1, #32]
.Ltmp253:
	fmla	v16.4s, v19.4s, v18.s[2]
.Ltmp254:
	fmla	v7.4s, v19.4s, v17.s[2]
	fmla	v6.4s, v19.4s, v21.s[2]
	fmla	v5.4s, v19.4s, v22.s[2]
	fmla	v4.4s, v19.4s, v23.s[2]
	fmla	v3.4s, v19.4s, v24.s[2]
	fmla	v2.4s, v19.4s, v25.s[2]
	fmla	v16.4s, v20.4s, v18.s[3]
.Ltmp255:
	fmla	v7.4s, v20.4s, v17.s[3]
	fmla	v6.4s, v20.4s, v21.s[3]
	fmla	v5.4s, v20.4s, v22.s[3]
	fmla	v4.4s, v20.4s, v23.s[3]
	fmla	v3.4s, v20.4s, v24.s[3]
	subs	x3, x3, #1
.Ltmp256:
	add	w2, w2, #784
	add	x1, x1, #64
	fmla	v2.4s, v20.4s, v25.s[3]
.Ltmp257:
	b.ne	.LBB3_5
.Ltmp258:
	fmax	v16.4s, v16.4s, v1.4s
.Ltmp259:
	add	w0, w0, #28
.Ltmp260:
	fmax	v7.4s, v7.4s, v1.4s
.Ltmp261:
	add	x0, x21, w0, sxtw #2
.Ltmp262:
	str	q16, [x0, x12]
	fmax	v6.4s, v6.4s, v1.4s
.Ltmp263:
	str	q7, [x0, x13]
	str	q6, [x0, x14]
	fmax	v5.4s, v5.4s, v1.4s
.Ltmp264:
	str	q5, [x0, x15]
	fmax	v4.4s, v4.4s, v1.4s
.Ltmp265:
	fmax	v3.4s, v3.4s, v1.4s
.Ltmp266:
	str	q4, [x0, x16]
	str	q3, [x0, x17]
	fmax	v2.4s, v2.4s, v1.4s
.Ltmp267:
	add	x8, x8, #1
.Ltmp268:
	add	w20, w20, #56
.Ltmp269:
	add	w10, w10, #56
	cmp	x8, #14
	str	q2, [x0, x18]
.Ltmp270:
	b.ne	.LBB3_2
.Ltmp271:
	mov	w0, wzr
.Ltmp272:
.LBB3_8:
	ldp	x20, x19, [sp, #128]
.Ltmp273:
	ldp	x22, x21, [sp, #112]
.Ltmp274:
	ldp	x24, x23, [sp, #96]
.Ltmp275:
	ldp	x26, x25, [sp, #80]
.Ltmp276:
	ldr	x30, [sp, #64]
	add	sp, sp, #144
	ret
.Ltmp277:
.Lfunc_end3:
	.size	k_compute_, .Lfunc_end3-k_compute_
	.cfi_endproc

	.p2align	4
	.type	.L__tvm_parallel_lambda,@function
.L__tvm_parallel_lambda:
.Lfunc_begin4:
	.cfi_startproc
	ldr	w8, [x1, #8]
	add	w9, w8, #20
	sdiv	w8, w9, w8
	mul	w14, w8, w0
	add	w8, w8, w14
	cmp	w8, #21
	mov	w9, #21
	csel	w8, w8, w9, lt
	cmp	w14, w8
	b.ge	.LBB4_10
	sub	sp, sp, #144
	stp	d15, d14, [sp, #48]
	stp	d13, d12, [sp, #64]
	stp	d11, d10, [sp, #80]
	stp	d9, d8, [sp, #96]
	str	x21, [sp, #112]
	stp	x20, x19, [sp, #128]
	.cfi_def_cfa_offset 144
	.cfi_offset w19, -8
	.cfi_offset w20, -16
	.cfi_offset w21, -32
	.cfi_offset b8, -40
	.cfi_offset b9, -48
	.cfi_offset b10, -56
	.cfi_offset b11, -64
	.cfi_offset b12, -72
	.cfi_offset b13, -80
	.cfi_offset b14, -88
	.cfi_offset b15, -96
	ldr	w9, [x2, #16]
	ldr	x10, [x2, #24]
	ldr	w15, [x2, #32]
	ldr	x11, [x2, #40]
	sxtw	x12, w14
	ldr	x13, [x2, #8]
	ldrsw	x16, [x2]
	add	x13, x13, x16, lsl #2
	mov	w16, #3072
	madd	w14, w14, w16, w15
	ldr	w15, [x2, #48]
	mov	w16, #48
	mov	w17, #2352
	mov	w18, #56
	movi	v0.2d, #0000000000000000
	ldr	x0, [x2, #56]
.LBB4_2:
	mov	w1, wzr
	madd	x2, x12, x16, x13
	ldp	q2, q1, [x2]
	stp	q1, q2, [sp, #16]
	ldr	q1, [x2, #32]
	str	q1, [sp]
	madd	w2, w12, w17, w15
	mov	w3, w9
	.p2align	5, , 16
.LBB4_3:
	mov	w6, wzr
	madd	w4, w1, w18, w2
	mov	w7, #1
	.p2align	5, , 16
.LBB4_4:
	mov	w5, w7
	add	w7, w3, w6
	mov	w19, w14
	mov	w20, #64
	ldp	q19, q26, [sp, #16]
	mov	v8.16b, v26.16b
	mov	v31.16b, v26.16b
	mov	v30.16b, v26.16b
	mov	v29.16b, v26.16b
	mov	v28.16b, v26.16b
	mov	v27.16b, v26.16b
	mov	v25.16b, v19.16b
	mov	v24.16b, v19.16b
	mov	v23.16b, v19.16b
	mov	v22.16b, v19.16b
	mov	v21.16b, v19.16b
	mov	v20.16b, v19.16b
	ldr	q4, [sp]
	mov	v18.16b, v4.16b
	mov	v17.16b, v4.16b
	mov	v16.16b, v4.16b
	mov	v7.16b, v4.16b
	mov	v6.16b, v4.16b
	mov	v5.16b, v4.16b
	.p2align	5, , 16
.LBB4_5:
	add	x21, x10, w7, sxtw #2
	ldp	q15, q14, [x21]
	ldp	q13, q12, [x21, #32]
	ldp	q11, q10, [x21, #64]
	ldr	q9, [x21, #96]
	add	x21, x11, w19, sxtw #2
	ldp	q1, q2, [x21]
	fmla	v8.4s, v1.4s, v15.s[0]
	fmla	v25.4s, v2.4s, v15.s[0]
	fmla	v31.4s, v1.4s, v14.s[0]
	fmla	v30.4s, v1.4s, v13.s[0]
	fmla	v29.4s, v1.4s, v12.s[0]
	fmla	v28.4s, v1.4s, v11.s[0]
	fmla	v27.4s, v1.4s, v10.s[0]
	fmla	v26.4s, v1.4s, v9.s[0]
	ldp	q1, q3, [x21, #32]
	fmla	v18.4s, v1.4s, v15.s[0]
	fmla	v24.4s, v2.4s, v14.s[0]
	fmla	v17.4s, v1.4s, v14.s[0]
	fmla	v23.4s, v2.4s, v13.s[0]
	fmla	v16.4s, v1.4s, v13.s[0]
	fmla	v22.4s, v2.4s, v12.s[0]
	fmla	v7.4s, v1.4s, v12.s[0]
	fmla	v21.4s, v2.4s, v11.s[0]
	fmla	v6.4s, v1.4s, v11.s[0]
	fmla	v20.4s, v2.4s, v10.s[0]
	fmla	v5.4s, v1.4s, v10.s[0]
	fmla	v19.4s, v2.4s, v9.s[0]
	fmla	v4.4s, v1.4s, v9.s[0]
	ldp	q1, q2, [x21, #64]
	fmla	v8.4s, v3.4s, v15.s[1]
	fmla	v25.4s, v1.4s, v15.s[1]
	fmla	v18.4s, v2.4s, v15.s[1]
	fmla	v31.4s, v3.4s, v14.s[1]
	fmla	v24.4s, v1.4s, v14.s[1]
	fmla	v17.4s, v2.4s, v14.s[1]
	fmla	v30.4s, v3.4s, v13.s[1]
	fmla	v23.4s, v1.4s, v13.s[1]
	fmla	v16.4s, v2.4s, v13.s[1]
	fmla	v29.4s, v3.4s, v12.s[1]
	fmla	v22.4s, v1.4s, v12.s[1]
	fmla	v7.4s, v2.4s, v12.s[1]
	fmla	v28.4s, v3.4s, v11.s[1]
	fmla	v21.4s, v1.4s, v11.s[1]
	fmla	v6.4s, v2.4s, v11.s[1]
	fmla	v27.4s, v3.4s, v10.s[1]
	fmla	v20.4s, v1.4s, v10.s[1]
	fmla	v5.4s, v2.4s, v10.s[1]
	fmla	v26.4s, v3.4s, v9.s[1]
	fmla	v19.4s, v1.4s, v9.s[1]
	fmla	v4.4s, v2.4s, v9.s[1]
	ldp	q1, q2, [x21, #96]
	fmla	v8.4s, v1.4s, v15.s[2]
	fmla	v25.4s, v2.4s, v15.s[2]
	fmla	v31.4s, v1.4s, v14.s[2]
	fmla	v30.4s, v1.4s, v13.s[2]
	fmla	v29.4s, v1.4s, v12.s[2]
	fmla	v28.4s, v1.4s, v11.s[2]
	fmla	v27.4s, v1.4s, v10.s[2]
	fmla	v26.4s, v1.4s, v9.s[2]
	ldp	q1, q3, [x21, #128]
	fmla	v18.4s, v1.4s, v15.s[2]
	fmla	v24.4s, v2.4s, v14.s[2]
	fmla	v17.4s, v1.4s, v14.s[2]
	fmla	v23.4s, v2.4s, v13.s[2]
	fmla	v16.4s, v1.4s, v13.s[2]
	fmla	v22.4s, v2.4s, v12.s[2]
	fmla	v7.4s, v1.4s, v12.s[2]
	fmla	v21.4s, v2.4s, v11.s[2]
	fmla	v6.4s, v1.4s, v11.s[2]
	fmla	v20.4s, v2.4s, v10.s[2]
	fmla	v5.4s, v1.4s, v10.s[2]
	fmla	v19.4s, v2.4s, v9.s[2]
	fmla	v4.4s, v1.4s, v9.s[2]
	ldp	q1, q2, [x21, #160]
	fmla	v8.4s, v3.4s, v15.s[3]
	fmla	v25.4s, v1.4s, v15.s[3]
	fmla	v18.4s, v2.4s, v15.s[3]
	fmla	v31.4s, v3.4s, v14.s[3]
	fmla	v24.4s, v1.4s, v14.s[3]
	fmla	v17.4s, v2.4s, v14.s[3]
	fmla	v30.4s, v3.4s, v13.s[3]
	fmla	v23.4s, v1.4s, v13.s[3]
	fmla	v16.4s, v2.4s, v13.s[3]
	fmla	v29.4s, v3.4s, v12.s[3]
	fmla	v22.4s, v1.4s, v12.s[3]
	fmla	v7.4s, v2.4s, v12.s[3]
	fmla	v28.4s, v3.4s, v11.s[3]
	fmla	v21.4s, v1.4s, v11.s[3]
	fmla	v6.4s, v2.4s, v11.s[3]
	fmla	v27.4s, v3.4s, v10.s[3]
	fmla	v20.4s, v1.4s, v10.s[3]
	fmla	v5.4s, v2.4s, v10.s[3]
	fmla	v26.4s, v3.4s, v9.s[3]
	fmla	v19.4s, v1.4s, v9.s[3]
	subs	x20, x20, #1
	add	w19, w19, #48
	add	w7, w7, #784
	fmla	v4.4s, v2.4s, v9.s[3]
	b.ne	.LBB4_5
	mov	w7, wzr
	fmax	v1.4s, v8.4s, v0.4s
	add	w6, w6, w4
	fmax	v2.4s, v31.4s, v0.4s
	fmax	v3.4s, v30.4s, v0.4s
	add	x6, x0, w6, sxtw #2
	stp	q1, q2, [x6]
	fmax	v1.4s, v29.4s, v0.4s
	stp	q3, q1, [x6, #32]
	fmax	v1.4s, v28.4s, v0.4s
	fmax	v2.4s, v27.4s, v0.4s
	stp	q1, q2, [x6, #64]
	fmax	v1.4s, v26.4s, v0.4s
	str	q1, [x6, #96]
	fmax	v1.4s, v25.4s, v0.4s
	str	q1, [x6, #3136]
	fmax	v1.4s, v24.4s, v0.4s
	str	q1, [x6, #3152]
	fmax	v1.4s, v23.4s, v0.4s
	str	q1, [x6, #3168]
	fmax	v1.4s, v22.4s, v0.4s
	str	q1, [x6, #3184]
	fmax	v1.4s, v21.4s, v0.4s
	str	q1, [x6, #3200]
	fmax	v1.4s, v20.4s, v0.4s
	str	q1, [x6, #3216]
	fmax	v1.4s, v19.4s, v0.4s
	str	q1, [x6, #3232]
	fmax	v1.4s, v18.4s, v0.4s
	str	q1, [x6, #6272]
	fmax	v1.4s, v17.4s, v0.4s
	str	q1, [x6, #6288]
	fmax	v1.4s, v16.4s, v0.4s
	str	q1, [x6, #6304]
	fmax	v1.4s, v7.4s, v0.4s
	str	q1, [x6, #6320]
	fmax	v1.4s, v6.4s, v0.4s
	str	q1, [x6, #6336]
	fmax	v1.4s, v5.4s, v0.4s
	str	q1, [x6, #6352]
	fmax	v1.4s, v4.4s, v0.4s
	str	q1, [x6, #6368]
	mov	w6, #28
	tbnz	w5, #0, .LBB4_4
	add	w1, w1, #1
	add	w3, w3, #56
	cmp	w1, #14
	b.ne	.LBB4_3
	.p2align	5, , 16
	add	x12, x12, #1
	add	w14, w14, #3072
	cmp	w8, w12
	b.ne	.LBB4_2
	ldp	x20, x19, [sp, #128]
	ldr	x21, [sp, #112]
	ldp	d9, d8, [sp, #96]
	ldp	d11, d10, [sp, #80]
	ldp	d13, d12, [sp, #64]
	ldp	d15, d14, [sp, #48]
	add	sp, sp, #144
.LBB4_10:
	mov	w0, wzr
	ret
.Lfunc_end4:
	.size	.L__tvm_parallel_lambda, .Lfunc_end4-.L__tvm_parallel_lambda
	.cfi_endproc

	.weak	__tvm_ffi_main
	.p2align	4
	.type	__tvm_ffi_main,@function
__tvm_ffi_main:
.Lfunc_begin5:
	.cfi_startproc
	b	__tvm_ffi_k
.Lfunc_end5:
	.size	__tvm_ffi_main, .Lfunc_end5-__tvm_ffi_main
	.cfi_endproc

	.section	.text.tvm.fp16.conv,"ax",@progbits
	.weak	__truncsfhf2
	.p2align	4
	.type	__truncsfhf2,@function
__truncsfhf2:
.Lfunc_begin6:
	.cfi_startproc
	fmov	w8, s0
	and	w9, w8, #0x7fffffff
	mov	w10, #-947912704
	add	w10, w9, w10
	mov	w11, #-1199570944
	add	w11, w9, w11
	cmp	w10, w11
	b.hs	.LBB6_2
	mov	w9, #16384
	movk	w9, #65534, lsl #16
	lsr	w10, w8, #13
	sub	w11, w10, #28, lsl #12
	and	w12, w8, #0x1fff
	cmp	w12, #1, lsl #12
	ubfx	w13, w8, #13, #1
	add	w13, w11, w13
	csel	w11, w11, w13, ne
	add	w9, w9, w10
	cmp	w12, #1, lsl #12
	csinc	w9, w11, w9, ls
	lsr	w8, w8, #31
	orr	w0, w9, w8, lsl #15
	ret
.LBB6_2:
	mov	w10, #2139095040
	cmp	w9, w10
	b.ls	.LBB6_4
	mov	w9, #32256
	bfxil	w9, w8, #13, #9
	lsr	w8, w8, #31
	orr	w0, w9, w8, lsl #15
	ret
.LBB6_4:
	lsr	w10, w9, #23
	cmp	w10, #142
	b.ls	.LBB6_6
	mov	w9, #31744
	lsr	w8, w8, #31
	orr	w0, w9, w8, lsl #15
	ret
.LBB6_6:
	lsr	w9, w9, #24
	cmp	w9, #45
	b.hs	.LBB6_8
	lsr	w8, w8, #31
	orr	w0, wzr, w8, lsl #15
	ret
.LBB6_8:
	mov	w9, #113
	sub	w9, w9, w10
	mov	w11, #8388608
	bfxil	w11, w8, #0, #23
	sub	w10, w10, #81
	lsl	w10, w11, w10
	cmp	w10, #0
	cset	w12, ne
	lsr	w10, w11, w9
	lsr	w9, w10, #13
	and	w11, w10, #0x1fff
	orr	w11, w11, w12
	cmp	w11, #1, lsl #12
	b.ls	.LBB6_10
	add	w9, w9, #1
	lsr	w8, w8, #31
	orr	w0, w9, w8, lsl #15
	ret
.LBB6_10:
	ubfx	w10, w10, #13, #1
	add	w10, w10, w9
	csel	w9, w9, w10, ne
	lsr	w8, w8, #31
	orr	w0, w9, w8, lsl #15
	ret
.Lfunc_end6:
	.size	__truncsfhf2, .Lfunc_end6-__truncsfhf2
	.cfi_endproc

	.weak	__extendhfsf2
	.p2align	4
	.type	__extendhfsf2,@function
__extendhfsf2:
.Lfunc_begin7:
	.cfi_startproc
	and	w8, w0, #0xffff
	and	w9, w0, #0x7fff
	sub	w10, w9, #1024
	lsr	w10, w10, #11
	cmp	w10, #14
	b.hi	.LBB7_3
	mov	w10, #939524096
	add	w9, w10, w9, lsl #13
.LBB7_2:
	lsr	w8, w8, #15
	orr	w8, w9, w8, lsl #31
	fmov	s0, w8
	ret
.LBB7_3:
	lsr	w10, w9, #10
	cmp	w10, #31
	b.lo	.LBB7_5
	lsl	w9, w9, #13
	orr	w9, w9, #0x7f800000
	lsr	w8, w8, #15
	orr	w8, w9, w8, lsl #31
	fmov	s0, w8
	ret
.LBB7_5:
	cbz	w9, .LBB7_2
	lsr	w10, w9, #8
	cmp	w9, #256
	csel	w10, w9, w10, lo
	mov	w11, #24
	mov	w12, #32
	csel	w11, w12, w11, lo
	lsr	w12, w10, #4
	sub	w13, w11, #4
	cmp	w10, #16
	csel	w10, w10, w12, lo
	csel	w11, w11, w13, lo
	lsr	w12, w10, #2
	sub	w13, w11, #2
	cmp	w10, #4
	csel	w10, w10, w12, lo
	csel	w11, w11, w13, lo
	cmp	w10, #2
	mov	w12, #-2
	csneg	w10, w12, w10, hs
	add	w10, w10, w11
	sub	w11, w10, #8
	lsl	w9, w9, w11
	eor	w9, w9, #0x800000
	mov	w11, #1124073472
	sub	w10, w11, w10, lsl #23
	orr	w9, w9, w10
	lsr	w8, w8, #15
	orr	w8, w9, w8, lsl #31
	fmov	s0, w8
	ret
.Lfunc_end7:
	.size	__extendhfsf2, .Lfunc_end7-__extendhfsf2
	.cfi_endproc

	.type	__TVMBackendParallelLaunch,@object
	.bss
	.weak	__TVMBackendParallelLaunch
	.p2align	3, 0x0
__TVMBackendParallelLaunch:
	.xword	0
	.size	__TVMBackendParallelLaunch, 8

	.type	.L.str,@object
	.section	.rodata,"a",@progbits
.L.str:
	.asciz	"TypeError"
	.size	.L.str, 10

	.type	.L.str.1,@object
.L.str.1:
	.asciz	"Expected "
	.size	.L.str.1, 10

	.type	.L.str.2,@object
.L.str.2:
	.asciz	"4"
	.size	.L.str.2, 2

	.type	.L.str.3,@object
.L.str.3:
	.asciz	" arguments"
	.size	.L.str.3, 11

	.type	.L.str.4,@object
.L.str.4:
	.asciz	" when calling:\n  `"
	.size	.L.str.4, 19

	.type	.L.str.5,@object
.L.str.5:
	.asciz	"k(weights: Tensor([65536], float32), bias: Tensor([256], float32), x: Tensor([50176], float32), y: Tensor([50176], float32))"
	.size	.L.str.5, 125

	.type	.L.str.6,@object
.L.str.6:
	.asciz	"`"
	.size	.L.str.6, 2

	.type	.L.str.7,@object
.L.str.7:
	.asciz	"args pointer is NULL"
	.size	.L.str.7, 21

	.type	.L.str.8,@object
.L.str.8:
	.asciz	"Mismatched type on argument #"
	.size	.L.str.8, 30

	.type	.L.str.9,@object
.L.str.9:
	.asciz	"0"
	.size	.L.str.9, 2

	.type	.L.str.10,@object
.L.str.10:
	.asciz	"`,\n  expected "
	.size	.L.str.10, 15

	.type	.L.str.11,@object
.L.str.11:
	.asciz	"Tensor"
	.size	.L.str.11, 7

	.type	.L.str.12,@object
.L.str.12:
	.asciz	"1"
	.size	.L.str.12, 2

	.type	.L.str.13,@object
.L.str.13:
	.asciz	"2"
	.size	.L.str.13, 2

	.type	.L.str.14,@object
.L.str.14:
	.asciz	"3"
	.size	.L.str.14, 2

	.type	.L.str.15,@object
.L.str.15:
	.asciz	"ValueError"
	.size	.L.str.15, 11

	.type	.L.str.16,@object
.L.str.16:
	.asciz	"Mismatched "
	.size	.L.str.16, 12

	.type	.L.str.17,@object
.L.str.17:
	.asciz	"weights"
	.size	.L.str.17, 8

	.type	.L.str.18,@object
.L.str.18:
	.asciz	".ndim on argument #"
	.size	.L.str.18, 20

	.type	.L.str.19,@object
.L.str.19:
	.asciz	".dtype on argument #"
	.size	.L.str.19, 21

	.type	.L.str.20,@object
.L.str.20:
	.asciz	"float32"
	.size	.L.str.20, 8

	.type	.L.str.21,@object
.L.str.21:
	.asciz	".device_type on argument #"
	.size	.L.str.21, 27

	.type	.L.str.22,@object
.L.str.22:
	.asciz	"cpu"
	.size	.L.str.22, 4

	.type	.L.str.23,@object
.L.str.23:
	.asciz	"bias"
	.size	.L.str.23, 5

	.type	.L.str.24,@object
.L.str.24:
	.asciz	"x"
	.size	.L.str.24, 2

	.type	.L.str.25,@object
.L.str.25:
	.asciz	"y"
	.size	.L.str.25, 2

	.type	.L.str.26,@object
.L.str.26:
	.asciz	".strides on argument #"
	.size	.L.str.26, 23

	.type	.L.str.27,@object
.L.str.27:
	.asciz	"`,\n  expected to be compact array"
	.size	.L.str.27, 34

	.type	.L.str.28,@object
.L.str.28:
	.asciz	" data pointer is NULL on argument #"
	.size	.L.str.28, 36

	.type	.L.str.29,@object
.L.str.29:
	.asciz	"`,\n  expected non-NULL data pointer"
	.size	.L.str.29, 36

	.type	.L.str.30,@object
.L.str.30:
	.asciz	"bias.device_id"
	.size	.L.str.30, 15

	.type	.L.str.31,@object
.L.str.31:
	.asciz	" on argument #"
	.size	.L.str.31, 15

	.type	.L.str.32,@object
.L.str.32:
	.asciz	"`,\n  expected to match "
	.size	.L.str.32, 24

	.type	.L.str.33,@object
.L.str.33:
	.asciz	"weights.device_id"
	.size	.L.str.33, 18

	.type	.L.str.34,@object
.L.str.34:
	.asciz	"x.device_id"
	.size	.L.str.34, 12

	.type	.L.str.35,@object
.L.str.35:
	.asciz	"y.device_id"
	.size	.L.str.35, 12

	.type	.L.str.36,@object
.L.str.36:
	.asciz	"Invalid "
	.size	.L.str.36, 9

	.type	.L.str.37,@object
.L.str.37:
	.asciz	"weights.shape[0]"
	.size	.L.str.37, 17

	.type	.L.str.38,@object
.L.str.38:
	.asciz	"65536"
	.size	.L.str.38, 6

	.type	.L.str.39,@object
.L.str.39:
	.asciz	"bias.shape[0]"
	.size	.L.str.39, 14

	.type	.L.str.40,@object
.L.str.40:
	.asciz	"256"
	.size	.L.str.40, 4

	.type	.L.str.41,@object
.L.str.41:
	.asciz	"x.shape[0]"
	.size	.L.str.41, 11

	.type	.L.str.42,@object
.L.str.42:
	.asciz	"50176"
	.size	.L.str.42, 6

	.type	.L.str.43,@object
.L.str.43:
	.asciz	"y.shape[0]"
	.size	.L.str.43, 11

	.section	.debug_loc,"",@progbits
.Ldebug_loc0:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Lfunc_begin0-.Lfunc_begin0
	.xword	.Ltmp65-.Lfunc_begin0
	.hword	1
	.byte	81
	.xword	.Ltmp65-.Lfunc_begin0
	.xword	.Ltmp95-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	81
	.byte	159
	.xword	.Ltmp95-.Lfunc_begin0
	.xword	.Ltmp108-.Lfunc_begin0
	.hword	1
	.byte	81
	.xword	.Ltmp108-.Lfunc_begin0
	.xword	.Ltmp109-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	81
	.byte	159
	.xword	.Ltmp109-.Lfunc_begin0
	.xword	.Ltmp117-.Lfunc_begin0
	.hword	1
	.byte	81
	.xword	.Ltmp117-.Lfunc_begin0
	.xword	.Ltmp118-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	81
	.byte	159
	.xword	.Ltmp118-.Lfunc_begin0
	.xword	.Ltmp131-.Lfunc_begin0
	.hword	1
	.byte	81
	.xword	.Ltmp131-.Lfunc_begin0
	.xword	.Ltmp132-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	81
	.byte	159
	.xword	.Ltmp132-.Lfunc_begin0
	.xword	.Ltmp135-.Lfunc_begin0
	.hword	1
	.byte	81
	.xword	.Ltmp135-.Lfunc_begin0
	.xword	.Ltmp136-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	81
	.byte	159
	.xword	.Ltmp136-.Lfunc_begin0
	.xword	.Ltmp139-.Lfunc_begin0
	.hword	1
	.byte	81
	.xword	.Ltmp139-.Lfunc_begin0
	.xword	.Ltmp192-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	81
	.byte	159
	.xword	.Ltmp193-.Lfunc_begin0
	.xword	.Lfunc_end0-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	81
	.byte	159
	.xword	0
	.xword	0
.Ldebug_loc1:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Lfunc_begin0-.Lfunc_begin0
	.xword	.Ltmp66-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp66-.Lfunc_begin0
	.xword	.Ltmp95-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp95-.Lfunc_begin0
	.xword	.Ltmp96-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp96-.Lfunc_begin0
	.xword	.Ltmp97-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp97-.Lfunc_begin0
	.xword	.Ltmp98-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp98-.Lfunc_begin0
	.xword	.Ltmp99-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp99-.Lfunc_begin0
	.xword	.Ltmp100-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp100-.Lfunc_begin0
	.xword	.Ltmp101-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp101-.Lfunc_begin0
	.xword	.Ltmp102-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp102-.Lfunc_begin0
	.xword	.Ltmp104-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp104-.Lfunc_begin0
	.xword	.Ltmp105-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp105-.Lfunc_begin0
	.xword	.Ltmp106-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp106-.Lfunc_begin0
	.xword	.Ltmp107-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp107-.Lfunc_begin0
	.xword	.Ltmp109-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp109-.Lfunc_begin0
	.xword	.Ltmp110-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp110-.Lfunc_begin0
	.xword	.Ltmp111-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp111-.Lfunc_begin0
	.xword	.Ltmp112-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp112-.Lfunc_begin0
	.xword	.Ltmp113-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp113-.Lfunc_begin0
	.xword	.Ltmp114-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp114-.Lfunc_begin0
	.xword	.Ltmp115-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp115-.Lfunc_begin0
	.xword	.Ltmp116-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp116-.Lfunc_begin0
	.xword	.Ltmp118-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp118-.Lfunc_begin0
	.xword	.Ltmp119-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp119-.Lfunc_begin0
	.xword	.Ltmp120-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp120-.Lfunc_begin0
	.xword	.Ltmp121-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp121-.Lfunc_begin0
	.xword	.Ltmp122-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp122-.Lfunc_begin0
	.xword	.Ltmp123-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp123-.Lfunc_begin0
	.xword	.Ltmp124-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp124-.Lfunc_begin0
	.xword	.Ltmp125-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp125-.Lfunc_begin0
	.xword	.Ltmp126-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp126-.Lfunc_begin0
	.xword	.Ltmp127-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp127-.Lfunc_begin0
	.xword	.Ltmp128-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp128-.Lfunc_begin0
	.xword	.Ltmp129-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp129-.Lfunc_begin0
	.xword	.Ltmp132-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp132-.Lfunc_begin0
	.xword	.Ltmp133-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp133-.Lfunc_begin0
	.xword	.Ltmp136-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	.Ltmp136-.Lfunc_begin0
	.xword	.Ltmp137-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp137-.Lfunc_begin0
	.xword	.Lfunc_end0-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	0
	.xword	0
.Ldebug_loc2:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp3-.Lfunc_begin0
	.xword	.Ltmp6-.Lfunc_begin0
	.hword	1
	.byte	88
	.xword	.Ltmp11-.Lfunc_begin0
	.xword	.Ltmp13-.Lfunc_begin0
	.hword	1
	.byte	88
	.xword	0
	.xword	0
.Ldebug_loc3:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp7-.Lfunc_begin0
	.xword	.Ltmp10-.Lfunc_begin0
	.hword	1
	.byte	89
	.xword	.Ltmp15-.Lfunc_begin0
	.xword	.Ltmp18-.Lfunc_begin0
	.hword	1
	.byte	89
	.xword	0
	.xword	0
.Ldebug_loc4:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp19-.Lfunc_begin0
	.xword	.Ltmp22-.Lfunc_begin0
	.hword	1
	.byte	90
	.xword	.Ltmp24-.Lfunc_begin0
	.xword	.Ltmp27-.Lfunc_begin0
	.hword	1
	.byte	90
	.xword	0
	.xword	0
.Ldebug_loc5:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp28-.Lfunc_begin0
	.xword	.Ltmp31-.Lfunc_begin0
	.hword	1
	.byte	91
	.xword	.Ltmp33-.Lfunc_begin0
	.xword	.Ltmp36-.Lfunc_begin0
	.hword	1
	.byte	91
	.xword	0
	.xword	0
.Ldebug_loc6:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp63-.Lfunc_begin0
	.xword	.Ltmp92-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	.Ltmp140-.Lfunc_begin0
	.xword	.Ltmp143-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	.Ltmp145-.Lfunc_begin0
	.xword	.Ltmp148-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	.Ltmp149-.Lfunc_begin0
	.xword	.Ltmp152-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	.Ltmp154-.Lfunc_begin0
	.xword	.Ltmp157-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	.Ltmp159-.Lfunc_begin0
	.xword	.Ltmp162-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	.Ltmp163-.Lfunc_begin0
	.xword	.Ltmp166-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	.Ltmp168-.Lfunc_begin0
	.xword	.Ltmp171-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	.Ltmp173-.Lfunc_begin0
	.xword	.Ltmp175-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	.Ltmp176-.Lfunc_begin0
	.xword	.Ltmp178-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	.Ltmp182-.Lfunc_begin0
	.xword	.Ltmp184-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	.Ltmp188-.Lfunc_begin0
	.xword	.Ltmp189-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	.Ltmp193-.Lfunc_begin0
	.xword	.Ltmp194-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	.Ltmp197-.Lfunc_begin0
	.xword	.Ltmp198-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	.Ltmp201-.Lfunc_begin0
	.xword	.Ltmp202-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	.Ltmp204-.Lfunc_begin0
	.xword	.Ltmp205-.Lfunc_begin0
	.hword	2
	.byte	116
	.byte	0
	.xword	0
	.xword	0
.Ldebug_loc7:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp63-.Lfunc_begin0
	.xword	.Ltmp70-.Lfunc_begin0
	.hword	2
	.byte	112
	.byte	0
	.xword	0
	.xword	0
.Ldebug_loc8:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp94-.Lfunc_begin0
	.xword	.Ltmp95-.Lfunc_begin0
	.hword	1
	.byte	87
	.xword	0
	.xword	0
.Ldebug_loc9:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp64-.Lfunc_begin0
	.xword	.Ltmp86-.Lfunc_begin0
	.hword	1
	.byte	83
	.xword	.Ltmp140-.Lfunc_begin0
	.xword	.Ltmp142-.Lfunc_begin0
	.hword	1
	.byte	83
	.xword	.Ltmp145-.Lfunc_begin0
	.xword	.Ltmp147-.Lfunc_begin0
	.hword	1
	.byte	83
	.xword	.Ltmp149-.Lfunc_begin0
	.xword	.Ltmp151-.Lfunc_begin0
	.hword	1
	.byte	83
	.xword	.Ltmp154-.Lfunc_begin0
	.xword	.Ltmp156-.Lfunc_begin0
	.hword	1
	.byte	83
	.xword	.Ltmp159-.Lfunc_begin0
	.xword	.Ltmp161-.Lfunc_begin0
	.hword	1
	.byte	83
	.xword	.Ltmp163-.Lfunc_begin0
	.xword	.Ltmp165-.Lfunc_begin0
	.hword	1
	.byte	83
	.xword	.Ltmp168-.Lfunc_begin0
	.xword	.Ltmp170-.Lfunc_begin0
	.hword	1
	.byte	83
	.xword	.Ltmp173-.Lfunc_begin0
	.xword	.Ltmp174-.Lfunc_begin0
	.hword	1
	.byte	83
	.xword	.Ltmp176-.Lfunc_begin0
	.xword	.Ltmp177-.Lfunc_begin0
	.hword	1
	.byte	83
	.xword	.Ltmp182-.Lfunc_begin0
	.xword	.Ltmp183-.Lfunc_begin0
	.hword	1
	.byte	83
	.xword	0
	.xword	0
.Ldebug_loc10:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp65-.Lfunc_begin0
	.xword	.Ltmp95-.Lfunc_begin0
	.hword	2
	.byte	130
	.byte	0
	.xword	.Ltmp140-.Lfunc_begin0
	.xword	.Ltmp181-.Lfunc_begin0
	.hword	2
	.byte	130
	.byte	0
	.xword	.Ltmp182-.Lfunc_begin0
	.xword	.Ltmp187-.Lfunc_begin0
	.hword	2
	.byte	130
	.byte	0
	.xword	.Ltmp188-.Lfunc_begin0
	.xword	.Ltmp192-.Lfunc_begin0
	.hword	2
	.byte	130
	.byte	0
	.xword	.Ltmp193-.Lfunc_begin0
	.xword	.Ltmp196-.Lfunc_begin0
	.hword	2
	.byte	130
	.byte	0
	.xword	.Ltmp197-.Lfunc_begin0
	.xword	.Ltmp200-.Lfunc_begin0
	.hword	2
	.byte	130
	.byte	0
	.xword	.Ltmp201-.Lfunc_begin0
	.xword	.Ltmp208-.Lfunc_begin0
	.hword	2
	.byte	130
	.byte	0
	.xword	0
	.xword	0
.Ldebug_loc11:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp65-.Lfunc_begin0
	.xword	.Ltmp76-.Lfunc_begin0
	.hword	2
	.byte	113
	.byte	0
	.xword	.Ltmp140-.Lfunc_begin0
	.xword	.Ltmp159-.Lfunc_begin0
	.hword	2
	.byte	113
	.byte	0
	.xword	0
	.xword	0
.Ldebug_loc12:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp66-.Lfunc_begin0
	.xword	.Ltmp95-.Lfunc_begin0
	.hword	2
	.byte	129
	.byte	0
	.xword	.Ltmp140-.Lfunc_begin0
	.xword	.Ltmp181-.Lfunc_begin0
	.hword	2
	.byte	129
	.byte	0
	.xword	.Ltmp182-.Lfunc_begin0
	.xword	.Ltmp187-.Lfunc_begin0
	.hword	2
	.byte	129
	.byte	0
	.xword	.Ltmp188-.Lfunc_begin0
	.xword	.Ltmp192-.Lfunc_begin0
	.hword	2
	.byte	129
	.byte	0
	.xword	.Ltmp193-.Lfunc_begin0
	.xword	.Ltmp196-.Lfunc_begin0
	.hword	2
	.byte	129
	.byte	0
	.xword	.Ltmp197-.Lfunc_begin0
	.xword	.Ltmp200-.Lfunc_begin0
	.hword	2
	.byte	129
	.byte	0
	.xword	.Ltmp201-.Lfunc_begin0
	.xword	.Ltmp208-.Lfunc_begin0
	.hword	2
	.byte	129
	.byte	0
	.xword	0
	.xword	0
.Ldebug_loc13:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp66-.Lfunc_begin0
	.xword	.Ltmp81-.Lfunc_begin0
	.hword	2
	.byte	114
	.byte	0
	.xword	.Ltmp140-.Lfunc_begin0
	.xword	.Ltmp141-.Lfunc_begin0
	.hword	2
	.byte	114
	.byte	0
	.xword	.Ltmp145-.Lfunc_begin0
	.xword	.Ltmp146-.Lfunc_begin0
	.hword	2
	.byte	114
	.byte	0
	.xword	.Ltmp149-.Lfunc_begin0
	.xword	.Ltmp150-.Lfunc_begin0
	.hword	2
	.byte	114
	.byte	0
	.xword	.Ltmp154-.Lfunc_begin0
	.xword	.Ltmp155-.Lfunc_begin0
	.hword	2
	.byte	114
	.byte	0
	.xword	.Ltmp159-.Lfunc_begin0
	.xword	.Ltmp160-.Lfunc_begin0
	.hword	2
	.byte	114
	.byte	0
	.xword	.Ltmp163-.Lfunc_begin0
	.xword	.Ltmp164-.Lfunc_begin0
	.hword	2
	.byte	114
	.byte	0
	.xword	.Ltmp168-.Lfunc_begin0
	.xword	.Ltmp169-.Lfunc_begin0
	.hword	2
	.byte	114
	.byte	0
	.xword	0
	.xword	0
.Ldebug_loc14:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp67-.Lfunc_begin0
	.xword	.Ltmp95-.Lfunc_begin0
	.hword	2
	.byte	128
	.byte	0
	.xword	.Ltmp140-.Lfunc_begin0
	.xword	.Ltmp181-.Lfunc_begin0
	.hword	2
	.byte	128
	.byte	0
	.xword	.Ltmp182-.Lfunc_begin0
	.xword	.Ltmp187-.Lfunc_begin0
	.hword	2
	.byte	128
	.byte	0
	.xword	.Ltmp188-.Lfunc_begin0
	.xword	.Ltmp192-.Lfunc_begin0
	.hword	2
	.byte	128
	.byte	0
	.xword	.Ltmp193-.Lfunc_begin0
	.xword	.Ltmp196-.Lfunc_begin0
	.hword	2
	.byte	128
	.byte	0
	.xword	.Ltmp197-.Lfunc_begin0
	.xword	.Ltmp200-.Lfunc_begin0
	.hword	2
	.byte	128
	.byte	0
	.xword	.Ltmp201-.Lfunc_begin0
	.xword	.Ltmp208-.Lfunc_begin0
	.hword	2
	.byte	128
	.byte	0
	.xword	0
	.xword	0
.Ldebug_loc15:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp67-.Lfunc_begin0
	.xword	.Ltmp93-.Lfunc_begin0
	.hword	2
	.byte	117
	.byte	0
	.xword	.Ltmp140-.Lfunc_begin0
	.xword	.Ltmp144-.Lfunc_begin0
	.hword	2
	.byte	117
	.byte	0
	.xword	.Ltmp145-.Lfunc_begin0
	.xword	.Ltmp153-.Lfunc_begin0
	.hword	2
	.byte	117
	.byte	0
	.xword	.Ltmp154-.Lfunc_begin0
	.xword	.Ltmp158-.Lfunc_begin0
	.hword	2
	.byte	117
	.byte	0
	.xword	.Ltmp159-.Lfunc_begin0
	.xword	.Ltmp167-.Lfunc_begin0
	.hword	2
	.byte	117
	.byte	0
	.xword	.Ltmp168-.Lfunc_begin0
	.xword	.Ltmp172-.Lfunc_begin0
	.hword	2
	.byte	117
	.byte	0
	.xword	.Ltmp173-.Lfunc_begin0
	.xword	.Ltmp179-.Lfunc_begin0
	.hword	2
	.byte	117
	.byte	0
	.xword	.Ltmp182-.Lfunc_begin0
	.xword	.Ltmp185-.Lfunc_begin0
	.hword	2
	.byte	117
	.byte	0
	.xword	.Ltmp188-.Lfunc_begin0
	.xword	.Ltmp191-.Lfunc_begin0
	.hword	2
	.byte	117
	.byte	0
	.xword	.Ltmp193-.Lfunc_begin0
	.xword	.Ltmp195-.Lfunc_begin0
	.hword	2
	.byte	117
	.byte	0
	.xword	.Ltmp197-.Lfunc_begin0
	.xword	.Ltmp199-.Lfunc_begin0
	.hword	2
	.byte	117
	.byte	0
	.xword	.Ltmp201-.Lfunc_begin0
	.xword	.Ltmp203-.Lfunc_begin0
	.hword	2
	.byte	117
	.byte	0
	.xword	.Ltmp204-.Lfunc_begin0
	.xword	.Ltmp206-.Lfunc_begin0
	.hword	2
	.byte	117
	.byte	0
	.xword	0
	.xword	0
.Ldebug_loc16:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Lfunc_begin3-.Lfunc_begin0
	.xword	.Ltmp218-.Lfunc_begin0
	.hword	1
	.byte	80
	.xword	.Ltmp218-.Lfunc_begin0
	.xword	.Ltmp276-.Lfunc_begin0
	.hword	1
	.byte	105
	.xword	.Ltmp276-.Lfunc_begin0
	.xword	.Lfunc_end3-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	80
	.byte	159
	.xword	0
	.xword	0
.Ldebug_loc17:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Lfunc_begin3-.Lfunc_begin0
	.xword	.Ltmp217-.Lfunc_begin0
	.hword	1
	.byte	81
	.xword	.Ltmp217-.Lfunc_begin0
	.xword	.Ltmp276-.Lfunc_begin0
	.hword	1
	.byte	106
	.xword	.Ltmp276-.Lfunc_begin0
	.xword	.Lfunc_end3-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	81
	.byte	159
	.xword	0
	.xword	0
.Ldebug_loc18:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Lfunc_begin3-.Lfunc_begin0
	.xword	.Ltmp216-.Lfunc_begin0
	.hword	1
	.byte	82
	.xword	.Ltmp216-.Lfunc_begin0
	.xword	.Ltmp274-.Lfunc_begin0
	.hword	1
	.byte	102
	.xword	.Ltmp274-.Lfunc_begin0
	.xword	.Lfunc_end3-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	82
	.byte	159
	.xword	0
	.xword	0
.Ldebug_loc19:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Lfunc_begin3-.Lfunc_begin0
	.xword	.Ltmp215-.Lfunc_begin0
	.hword	1
	.byte	83
	.xword	.Ltmp215-.Lfunc_begin0
	.xword	.Ltmp274-.Lfunc_begin0
	.hword	1
	.byte	101
	.xword	.Ltmp274-.Lfunc_begin0
	.xword	.Lfunc_end3-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	83
	.byte	159
	.xword	0
	.xword	0
.Ldebug_loc20:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Lfunc_begin3-.Lfunc_begin0
	.xword	.Ltmp214-.Lfunc_begin0
	.hword	1
	.byte	84
	.xword	.Ltmp214-.Lfunc_begin0
	.xword	.Ltmp275-.Lfunc_begin0
	.hword	1
	.byte	104
	.xword	.Ltmp275-.Lfunc_begin0
	.xword	.Lfunc_end3-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	84
	.byte	159
	.xword	0
	.xword	0
.Ldebug_loc21:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Lfunc_begin3-.Lfunc_begin0
	.xword	.Ltmp213-.Lfunc_begin0
	.hword	1
	.byte	85
	.xword	.Ltmp213-.Lfunc_begin0
	.xword	.Ltmp221-.Lfunc_begin0
	.hword	1
	.byte	100
	.xword	.Ltmp269-.Lfunc_begin0
	.xword	.Ltmp271-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	85
	.byte	159
	.xword	0
	.xword	0
.Ldebug_loc22:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Lfunc_begin3-.Lfunc_begin0
	.xword	.Ltmp212-.Lfunc_begin0
	.hword	1
	.byte	86
	.xword	.Ltmp212-.Lfunc_begin0
	.xword	.Ltmp275-.Lfunc_begin0
	.hword	1
	.byte	103
	.xword	.Ltmp275-.Lfunc_begin0
	.xword	.Lfunc_end3-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	86
	.byte	159
	.xword	0
	.xword	0
.Ldebug_loc23:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Lfunc_begin3-.Lfunc_begin0
	.xword	.Ltmp211-.Lfunc_begin0
	.hword	1
	.byte	87
	.xword	.Ltmp211-.Lfunc_begin0
	.xword	.Ltmp273-.Lfunc_begin0
	.hword	1
	.byte	99
	.xword	.Ltmp273-.Lfunc_begin0
	.xword	.Lfunc_end3-.Lfunc_begin0
	.hword	4
	.byte	243
	.byte	1
	.byte	87
	.byte	159
	.xword	0
	.xword	0
.Ldebug_loc24:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp210-.Lfunc_begin0
	.xword	.Ltmp218-.Lfunc_begin0
	.hword	2
	.byte	112
	.byte	0
	.xword	.Ltmp218-.Lfunc_begin0
	.xword	.Ltmp276-.Lfunc_begin0
	.hword	2
	.byte	137
	.byte	0
	.xword	0
	.xword	0
.Ldebug_loc25:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp210-.Lfunc_begin0
	.xword	.Ltmp217-.Lfunc_begin0
	.hword	2
	.byte	113
	.byte	0
	.xword	.Ltmp217-.Lfunc_begin0
	.xword	.Ltmp276-.Lfunc_begin0
	.hword	2
	.byte	138
	.byte	0
	.xword	0
	.xword	0
.Ldebug_loc26:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp210-.Lfunc_begin0
	.xword	.Ltmp216-.Lfunc_begin0
	.hword	2
	.byte	114
	.byte	0
	.xword	.Ltmp216-.Lfunc_begin0
	.xword	.Ltmp274-.Lfunc_begin0
	.hword	2
	.byte	134
	.byte	0
	.xword	0
	.xword	0
.Ldebug_loc27:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp210-.Lfunc_begin0
	.xword	.Ltmp215-.Lfunc_begin0
	.hword	2
	.byte	115
	.byte	0
	.xword	.Ltmp215-.Lfunc_begin0
	.xword	.Ltmp274-.Lfunc_begin0
	.hword	2
	.byte	133
	.byte	0
	.xword	0
	.xword	0
.Ldebug_loc28:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp220-.Lfunc_begin0
	.xword	.Ltmp221-.Lfunc_begin0
	.hword	3
	.byte	17
	.byte	0
	.byte	159
	.xword	.Ltmp221-.Lfunc_begin0
	.xword	.Ltmp222-.Lfunc_begin0
	.hword	1
	.byte	88
	.xword	.Ltmp222-.Lfunc_begin0
	.xword	.Ltmp223-.Lfunc_begin0
	.hword	3
	.byte	17
	.byte	0
	.byte	159
	.xword	.Ltmp223-.Lfunc_begin0
	.xword	.Ltmp234-.Lfunc_begin0
	.hword	9
	.byte	115
	.byte	0
	.byte	52
	.byte	36
	.byte	35
	.byte	128
	.byte	248
	.byte	3
	.byte	159
	.xword	.Ltmp235-.Lfunc_begin0
	.xword	.Ltmp244-.Lfunc_begin0
	.hword	13
	.byte	115
	.byte	0
	.byte	17
	.byte	192
	.byte	0
	.byte	28
	.byte	17
	.byte	127
	.byte	27
	.byte	17
	.byte	1
	.byte	34
	.byte	159
	.xword	.Ltmp244-.Lfunc_begin0
	.xword	.Ltmp245-.Lfunc_begin0
	.hword	3
	.byte	17
	.byte	0
	.byte	159
	.xword	.Ltmp245-.Lfunc_begin0
	.xword	.Ltmp256-.Lfunc_begin0
	.hword	9
	.byte	115
	.byte	0
	.byte	52
	.byte	36
	.byte	35
	.byte	128
	.byte	248
	.byte	3
	.byte	159
	.xword	.Ltmp257-.Lfunc_begin0
	.xword	.Ltmp268-.Lfunc_begin0
	.hword	13
	.byte	115
	.byte	0
	.byte	17
	.byte	192
	.byte	0
	.byte	28
	.byte	17
	.byte	127
	.byte	27
	.byte	17
	.byte	1
	.byte	34
	.byte	159
	.xword	.Ltmp268-.Lfunc_begin0
	.xword	.Ltmp270-.Lfunc_begin0
	.hword	1
	.byte	88
	.xword	.Ltmp270-.Lfunc_begin0
	.xword	.Ltmp272-.Lfunc_begin0
	.hword	3
	.byte	17
	.byte	2
	.byte	159
	.xword	0
	.xword	0
.Ldebug_loc29:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp222-.Lfunc_begin0
	.xword	.Ltmp268-.Lfunc_begin0
	.hword	6
	.byte	120
	.byte	0
	.byte	16
	.byte	56
	.byte	30
	.byte	159
	.xword	0
	.xword	0
.Ldebug_loc30:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp222-.Lfunc_begin0
	.xword	.Ltmp244-.Lfunc_begin0
	.hword	3
	.byte	17
	.byte	0
	.byte	159
	.xword	.Ltmp244-.Lfunc_begin0
	.xword	.Ltmp272-.Lfunc_begin0
	.hword	3
	.byte	17
	.byte	28
	.byte	159
	.xword	0
	.xword	0
.Ldebug_loc31:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp222-.Lfunc_begin0
	.xword	.Ltmp244-.Lfunc_begin0
	.hword	9
	.byte	17
	.byte	0
	.byte	120
	.byte	0
	.byte	16
	.byte	56
	.byte	30
	.byte	34
	.byte	159
	.xword	.Ltmp244-.Lfunc_begin0
	.xword	.Ltmp268-.Lfunc_begin0
	.hword	9
	.byte	17
	.byte	28
	.byte	120
	.byte	0
	.byte	16
	.byte	56
	.byte	30
	.byte	34
	.byte	159
	.xword	0
	.xword	0
.Ldebug_loc32:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp222-.Lfunc_begin0
	.xword	.Ltmp223-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	64
	.xword	.Ltmp224-.Lfunc_begin0
	.xword	.Ltmp225-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	81
	.xword	.Ltmp225-.Lfunc_begin0
	.xword	.Ltmp227-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	84
	.xword	.Ltmp227-.Lfunc_begin0
	.xword	.Ltmp228-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	86
	.xword	.Ltmp228-.Lfunc_begin0
	.xword	.Ltmp229-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	88
	.xword	.Ltmp229-.Lfunc_begin0
	.xword	.Ltmp231-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	89
	.xword	.Ltmp231-.Lfunc_begin0
	.xword	.Ltmp244-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	84
	.xword	.Ltmp244-.Lfunc_begin0
	.xword	.Ltmp245-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	64
	.xword	.Ltmp246-.Lfunc_begin0
	.xword	.Ltmp247-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	81
	.xword	.Ltmp247-.Lfunc_begin0
	.xword	.Ltmp249-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	84
	.xword	.Ltmp249-.Lfunc_begin0
	.xword	.Ltmp250-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	86
	.xword	.Ltmp250-.Lfunc_begin0
	.xword	.Ltmp251-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	88
	.xword	.Ltmp251-.Lfunc_begin0
	.xword	.Ltmp253-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	89
	.xword	.Ltmp253-.Lfunc_begin0
	.xword	.Ltmp272-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	84
	.xword	0
	.xword	0
.Ldebug_loc33:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp222-.Lfunc_begin0
	.xword	.Ltmp223-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	64
	.xword	.Ltmp223-.Lfunc_begin0
	.xword	.Ltmp238-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	80
	.xword	.Ltmp238-.Lfunc_begin0
	.xword	.Ltmp239-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	71
	.xword	.Ltmp239-.Lfunc_begin0
	.xword	.Ltmp240-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	70
	.xword	.Ltmp240-.Lfunc_begin0
	.xword	.Ltmp241-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	69
	.xword	.Ltmp241-.Lfunc_begin0
	.xword	.Ltmp242-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	68
	.xword	.Ltmp242-.Lfunc_begin0
	.xword	.Ltmp243-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	67
	.xword	.Ltmp243-.Lfunc_begin0
	.xword	.Ltmp244-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	66
	.xword	.Ltmp244-.Lfunc_begin0
	.xword	.Ltmp245-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	64
	.xword	.Ltmp245-.Lfunc_begin0
	.xword	.Ltmp261-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	80
	.xword	.Ltmp261-.Lfunc_begin0
	.xword	.Ltmp263-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	71
	.xword	.Ltmp263-.Lfunc_begin0
	.xword	.Ltmp264-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	70
	.xword	.Ltmp264-.Lfunc_begin0
	.xword	.Ltmp265-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	69
	.xword	.Ltmp265-.Lfunc_begin0
	.xword	.Ltmp266-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	68
	.xword	.Ltmp266-.Lfunc_begin0
	.xword	.Ltmp267-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	67
	.xword	.Ltmp267-.Lfunc_begin0
	.xword	.Ltmp272-.Lfunc_begin0
	.hword	2
	.byte	144
	.byte	66
	.xword	0
	.xword	0
.Ldebug_loc34:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp223-.Lfunc_begin0
	.xword	.Ltmp234-.Lfunc_begin0
	.hword	5
	.byte	115
	.byte	0
	.byte	52
	.byte	36
	.byte	159
	.xword	.Ltmp245-.Lfunc_begin0
	.xword	.Ltmp256-.Lfunc_begin0
	.hword	5
	.byte	115
	.byte	0
	.byte	52
	.byte	36
	.byte	159
	.xword	0
	.xword	0
.Ldebug_loc35:
	.xword	-1
	.xword	.Lfunc_begin0
	.xword	.Ltmp237-.Lfunc_begin0
	.xword	.Ltmp262-.Lfunc_begin0
	.hword	1
	.byte	80
	.xword	0
	.xword	0
	.section	.debug_abbrev,"",@progbits
	.byte	1
	.byte	17
	.byte	1
	.byte	37
	.byte	14
	.byte	19
	.byte	5
	.byte	3
	.byte	14
	.byte	16
	.byte	23
	.byte	27
	.byte	14
	.ascii	"\264B"
	.byte	25
	.byte	17
	.byte	1
	.byte	85
	.byte	23
	.byte	0
	.byte	0
	.byte	2
	.byte	46
	.byte	1
	.byte	17
	.byte	1
	.byte	18
	.byte	6
	.byte	64
	.byte	24
	.byte	3
	.byte	14
	.byte	39
	.byte	25
	.byte	73
	.byte	19
	.byte	0
	.byte	0
	.byte	3
	.byte	5
	.byte	0
	.byte	3
	.byte	14
	.byte	73
	.byte	19
	.byte	0
	.byte	0
	.byte	4
	.byte	5
	.byte	0
	.byte	2
	.byte	23
	.byte	3
	.byte	14
	.byte	73
	.byte	19
	.byte	0
	.byte	0
	.byte	5
	.byte	52
	.byte	0
	.byte	2
	.byte	23
	.byte	3
	.byte	14
	.byte	73
	.byte	19
	.byte	0
	.byte	0
	.byte	6
	.byte	52
	.byte	0
	.byte	2
	.byte	23
	.byte	73
	.byte	19
	.byte	0
	.byte	0
	.byte	7
	.byte	36
	.byte	0
	.byte	3
	.byte	14
	.byte	62
	.byte	11
	.byte	11
	.byte	11
	.byte	0
	.byte	0
	.byte	8
	.byte	15
	.byte	0
	.byte	0
	.byte	0
	.byte	9
	.byte	15
	.byte	0
	.byte	73
	.byte	19
	.byte	0
	.byte	0
	.byte	0
	.section	.debug_info,"",@progbits
.Lcu_begin0:
	.word	.Ldebug_info_end0-.Ldebug_info_start0
.Ldebug_info_start0:
	.hword	4
	.word	.debug_abbrev
	.byte	8
	.byte	1
	.word	.Linfo_string0
	.hword	2
	.word	.Linfo_string1
	.word	.Lline_table_start0
	.word	.Linfo_string2

	.xword	0
	.word	.Ldebug_ranges0
	.byte	2
	.xword	.Lfunc_begin0
	.word	.Lfunc_end0-.Lfunc_begin0
	.byte	1
	.byte	111
	.word	.Linfo_string3

	.word	572
	.byte	3
	.word	.Linfo_string23
	.word	579
	.byte	4
	.word	.Ldebug_loc0
	.word	.Linfo_string6
	.word	579
	.byte	4
	.word	.Ldebug_loc1
	.word	.Linfo_string7
	.word	572
	.byte	3
	.word	.Linfo_string24
	.word	579
	.byte	5
	.word	.Ldebug_loc2
	.word	.Linfo_string8
	.word	572
	.byte	5
	.word	.Ldebug_loc3
	.word	.Linfo_string9
	.word	572
	.byte	5
	.word	.Ldebug_loc4
	.word	.Linfo_string10
	.word	572
	.byte	5
	.word	.Ldebug_loc5
	.word	.Linfo_string11
	.word	572
	.byte	5
	.word	.Ldebug_loc6
	.word	.Linfo_string12
	.word	580
	.byte	5
	.word	.Ldebug_loc7
	.word	.Linfo_string14
	.word	580
	.byte	5
	.word	.Ldebug_loc8
	.word	.Linfo_string15
	.word	572
	.byte	5
	.word	.Ldebug_loc9
	.word	.Linfo_string16
	.word	572
	.byte	5
	.word	.Ldebug_loc10
	.word	.Linfo_string17
	.word	580
	.byte	5
	.word	.Ldebug_loc11
	.word	.Linfo_string18
	.word	580
	.byte	5
	.word	.Ldebug_loc12
	.word	.Linfo_string19
	.word	580
	.byte	5
	.word	.Ldebug_loc13
	.word	.Linfo_string20
	.word	580
	.byte	5
	.word	.Ldebug_loc14
	.word	.Linfo_string21
	.word	580
	.byte	5
	.word	.Ldebug_loc15
	.word	.Linfo_string22
	.word	580
	.byte	0
	.byte	2
	.xword	.Lfunc_begin3
	.word	.Lfunc_end3-.Lfunc_begin3
	.byte	1
	.byte	111
	.word	.Linfo_string5

	.word	572
	.byte	4
	.word	.Ldebug_loc16
	.word	.Linfo_string25
	.word	592
	.byte	4
	.word	.Ldebug_loc17
	.word	.Linfo_string27
	.word	592
	.byte	4
	.word	.Ldebug_loc18
	.word	.Linfo_string28
	.word	592
	.byte	4
	.word	.Ldebug_loc19
	.word	.Linfo_string29
	.word	592
	.byte	4
	.word	.Ldebug_loc20
	.word	.Linfo_string15
	.word	572
	.byte	4
	.word	.Ldebug_loc21
	.word	.Linfo_string30
	.word	572
	.byte	4
	.word	.Ldebug_loc22
	.word	.Linfo_string31
	.word	572
	.byte	4
	.word	.Ldebug_loc23
	.word	.Linfo_string32
	.word	572
	.byte	5
	.word	.Ldebug_loc24
	.word	.Linfo_string25
	.word	592
	.byte	5
	.word	.Ldebug_loc25
	.word	.Linfo_string27
	.word	592
	.byte	5
	.word	.Ldebug_loc26
	.word	.Linfo_string28
	.word	592
	.byte	5
	.word	.Ldebug_loc27
	.word	.Linfo_string29
	.word	592
	.byte	5
	.word	.Ldebug_loc28
	.word	.Linfo_string33
	.word	572
	.byte	5
	.word	.Ldebug_loc29
	.word	.Linfo_string34
	.word	572
	.byte	5
	.word	.Ldebug_loc30
	.word	.Linfo_string35
	.word	572
	.byte	5
	.word	.Ldebug_loc31
	.word	.Linfo_string36
	.word	572
	.byte	5
	.word	.Ldebug_loc32
	.word	.Linfo_string33
	.word	604
	.byte	6
	.word	.Ldebug_loc33
	.word	592
	.byte	5
	.word	.Ldebug_loc34
	.word	.Linfo_string38
	.word	572
	.byte	5
	.word	.Ldebug_loc35
	.word	.Linfo_string39
	.word	572
	.byte	0
	.byte	7
	.word	.Linfo_string4
	.byte	5
	.byte	4
	.byte	8
	.byte	9
	.word	585
	.byte	7
	.word	.Linfo_string13
	.byte	5
	.byte	8
	.byte	9
	.word	597
	.byte	7
	.word	.Linfo_string26
	.byte	4
	.byte	4
	.byte	7
	.word	.Linfo_string37
	.byte	4
	.byte	16
	.byte	0
.Ldebug_info_end0:
	.section	.debug_ranges,"",@progbits
.Ldebug_ranges0:
	.xword	.Lfunc_begin0
	.xword	.Lfunc_end0
	.xword	.Lfunc_begin3
	.xword	.Lfunc_end3
	.xword	0
	.xword	0
	.section	.debug_str,"MS",@progbits,1
.Linfo_string0:
	.asciz	"TVM"
.Linfo_string1:
	.asciz	"IRModule.CodeGenLLVM"
.Linfo_string2:
	.asciz	"."
.Linfo_string3:
	.asciz	"__tvm_ffi_k"
.Linfo_string4:
	.asciz	"int32"
.Linfo_string5:
	.asciz	"k_compute_"
.Linfo_string6:
	.asciz	"args"
.Linfo_string7:
	.asciz	"num_args"
.Linfo_string8:
	.asciz	"weights.type_index"
.Linfo_string9:
	.asciz	"bias.type_index"
.Linfo_string10:
	.asciz	"x.type_index"
.Linfo_string11:
	.asciz	"y.type_index"
.Linfo_string12:
	.asciz	"k.weights_shape"
.Linfo_string13:
	.asciz	"int64"
.Linfo_string14:
	.asciz	"k.weights_strides"
.Linfo_string15:
	.asciz	"elem_offset"
.Linfo_string16:
	.asciz	"dev_id"
.Linfo_string17:
	.asciz	"k.bias_shape"
.Linfo_string18:
	.asciz	"k.bias_strides"
.Linfo_string19:
	.asciz	"k.x_shape"
.Linfo_string20:
	.asciz	"k.x_strides"
.Linfo_string21:
	.asciz	"k.y_shape"
.Linfo_string22:
	.asciz	"k.y_strides"
.Linfo_string23:
	.asciz	"self_handle"
.Linfo_string24:
	.asciz	"result"
.Linfo_string25:
	.asciz	"weights"
.Linfo_string26:
	.asciz	"float32"
.Linfo_string27:
	.asciz	"bias"
.Linfo_string28:
	.asciz	"x"
.Linfo_string29:
	.asciz	"y"
.Linfo_string30:
	.asciz	"elem_offset1"
.Linfo_string31:
	.asciz	"elem_offset2"
.Linfo_string32:
	.asciz	"elem_offset3"
.Linfo_string33:
	.asciz	"v"
.Linfo_string34:
	.asciz	"cse_v4"
.Linfo_string35:
	.asciz	"cse_v5"
.Linfo_string36:
	.asciz	"cse_v9"
.Linfo_string37:
	.asciz	"float32x4"
.Linfo_string38:
	.asciz	"cse_v6"
.Linfo_string39:
	.asciz	"cse_v15"
	.section	.debug_pubnames,"",@progbits
	.word	.LpubNames_end0-.LpubNames_start0
.LpubNames_start0:
	.hword	2
	.word	.Lcu_begin0
	.word	612
	.word	42
	.asciz	"__tvm_ffi_k"
	.word	292
	.asciz	"k_compute_"
	.word	0
.LpubNames_end0:
	.section	.debug_pubtypes,"",@progbits
	.word	.LpubTypes_end0-.LpubTypes_start0
.LpubTypes_start0:
	.hword	2
	.word	.Lcu_begin0
	.word	612
	.word	572
	.asciz	"int32"
	.word	585
	.asciz	"int64"
	.word	597
	.asciz	"float32"
	.word	604
	.asciz	"float32x4"
	.word	0
.LpubTypes_end0:
	.section	".note.GNU-stack","",@progbits
	.section	.debug_line,"",@progbits
.Lline_table_start0:
