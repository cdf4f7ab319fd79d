"""One form for the spellings of a script: accents, strokes, vowel marks, letter variants,
simplified and traditional characters.

What is folded only decides which names are *equal*; no text is shown in its folded form. Knows no
places."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Letters that Unicode does not decompose, and that people type without their stroke or ligature.
_LETTERS = {
    "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h",
    "ŧ": "t", "ə": "a", "ŋ": "n", "ɓ": "b", "ɗ": "d", "ƙ": "k", "ё": "е",
    # Arabic, Persian and Urdu keyboards: seats of hamza, final ya and ha, two forms of kaf
    "أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ؤ": "و", "ئ": "ي", "ى": "ي", "ی": "ي", "ې": "ي",
    "ے": "ي", "ة": "ه", "ۀ": "ه", "ہ": "ه", "ھ": "ه", "ە": "ه", "ۃ": "ه", "ک": "ك", "ء": "",
    # Hebrew final letters and marks of abbreviation
    "ך": "כ", "ם": "מ", "ן": "נ", "ף": "פ", "ץ": "צ", "״": "", "׳": "", "־": " ",
    # Devanagari and Gurmukhi nasal signs, Japanese small ke
    "ँ": "ं", "ਁ": "ਂ", "ੰ": "ਂ", "ヶ": "ケ", "ゖ": "け",
}  # fmt: skip

# Traditional (or Japanese) and simplified forms of characters that occur in names of places.
_HAN = """
東东 臺台 灣湾 國国 廣广 廈厦 門门 龍龙 縣县 県县 區区 鄉乡 鎮镇 島岛 嶼屿 嶺岭 陽阳 陰阴 濱滨 浜滨 濟济 済济 蘇苏
蘭兰 華华 貴贵 遼辽 寧宁 齊齐 齋斋 斎斋 連连 達达 運运 鄭郑 鄧邓 鄒邹 吳吴 呉吴 韓韩 韋韦 馬马 鳳凤 鶴鹤 鷄鸡 雞鸡
鴻鸿 鵝鹅 鹽盐 塩盐 麗丽 麥麦 黃黄 點点 齒齿 龜龟 亀龟 內内 兩两 両两 冊册 凍冻 劉刘 劍剑 剣剑 勞劳 労劳 勝胜 匯汇
協协 卻却 參参 叢丛 員员 問问 啟启 喬乔 單单 嗎吗 嚴严 厳严 圍围 囲围 園园 圓圆 円圆 團团 団团 圖图 図图 堅坚 報报
場场 塊块 塵尘 墾垦 壇坛 壓压 壘垒 壯壮 壽寿 夾夹 奧奥 奪夺 奮奋 婁娄 媽妈 孫孙 學学 寶宝 實实 実实 審审 寬宽 專专
將将 尋寻 對对 対对 導导 層层 屬属 岡冈 崗岗 峽峡 嶗崂 巒峦 巖岩 帥帅 師师 帶带 帯带 幣币 幹干 庫库 廟庙 廠厂 廬庐
張张 強强 彈弹 彌弥 彎弯 彥彦 後后 從从 従从 復复 徑径 徳德 恆恒 恵惠 惡恶 悪恶 愛爱 慶庆 應应 応应 懷怀 懐怀 戰战
戦战 戲戏 戶户 戸户 據据 拠据 掃扫 掛挂 採采 揚扬 換换 損损 搖摇 擇择 択择 擊击 撃击 擔担 擴扩 拡扩 攝摄 敵敌 數数
斷断 於于 時时 晉晋 晝昼 曉晓 暁晓 曆历 暦历 書书 會会 條条 來来 楊杨 極极 榮荣 栄荣 樂乐 楽乐 樓楼 標标 樹树 橋桥
機机 檢检 検检 檳槟 櫻樱 桜樱 權权 権权 欄栏 歐欧 歡欢 歲岁 歳岁 歷历 歴历 殘残 氣气 気气 決决 沒没 沖冲 況况 洶汹
涇泾 淚泪 淨净 浄净 淵渊 淶涞 淺浅 渦涡 測测 渾浑 湯汤 溝沟 溫温 滄沧 滅灭 滬沪 滯滞 滿满 満满 漁渔 漢汉 漣涟 潁颍
潔洁 潤润 澗涧 澤泽 沢泽 濃浓 濕湿 瀋沈 瀏浏 瀘泸 瀝沥 瀟潇 瀨濑 瀬濑 灘滩 滝泷 瀧泷 烏乌 無无 煙烟 熱热 燈灯 營营
営营 爐炉 爭争 爺爷 爾尔 牆墙 狀状 狹狭 獅狮 獨独 獲获 獻献 現现 瑪玛 瓊琼 甌瓯 產产 産产 畢毕 畫画 異异 當当 療疗
發发 発发 盧卢 盡尽 監监 盤盘 眾众 矯矫 碩硕 碭砀 磚砖 礦矿 鉱矿 礎础 祿禄 禮礼 禎祯 離离 種种 稱称 穀谷 積积 穎颖
窪洼 竄窜 競竞 筆笔 節节 範范 築筑 簡简 籃篮 糧粮 紀纪 約约 紅红 納纳 純纯 紗纱 紙纸 級级 細细 終终 組组 結结 絡络
給给 統统 經经 経经 綠绿 緑绿 維维 綱纲 網网 綿绵 緊紧 線线 緬缅 編编 縱纵 總总 総总 績绩 織织 繩绳 繼继 継继 續续
続续 纖纤 羅罗 義义 習习 聖圣 聞闻 聯联 聲声 職职 肅肃 腦脑 腫肿 膠胶 臘腊 臨临 與与 興兴 舉举 舊旧 艦舰 艱艰 艷艳
莊庄 荘庄 莖茎 萊莱 萬万 葉叶 葦苇 蒼苍 蓋盖 蓮莲 蔣蒋 蔭荫 薩萨 薦荐 藍蓝 藝艺 芸艺 藥药 薬药 藪薮 蘆芦 蘿萝 處处
処处 虛虚 號号 蝦虾 螢萤 蟲虫 蠻蛮 術术 衛卫 衝冲 補补 裝装 裡里 裏里 製制 複复 見见 規规 視视 親亲 覺觉 覚觉 觀观
観观 計计 訊讯 討讨 訓训 記记 設设 許许 訴诉 診诊 評评 詞词 試试 詩诗 話话 誠诚 說说 説说 調调 諸诸 講讲 謝谢 謙谦
證证 証证 識识 譚谭 譜谱 議议 護护 譽誉 讀读 読读 讓让 豐丰 豊丰 貓猫 貝贝 負负 財财 貢贡 貨货 貫贯 責责 貿贸 費费
賀贺 賈贾 賓宾 賢贤 賣卖 売卖 質质 賴赖 頼赖 購购 贊赞 贛赣 趙赵 跡迹 踐践 車车 軌轨 軍军 軒轩 軟软 載载 輕轻 軽轻
輝辉 輪轮 輸输 轉转 転转 辦办 農农 這这 週周 進进 遊游 過过 違违 遠远 適适 遙遥 遷迁 選选 遺遗 還还 邊边 辺边 邏逻
郟郏 鄰邻 醫医 釀酿 釋释 釈释 針针 釣钓 鈞钧 鈴铃 鉅巨 銀银 銅铜 銘铭 銳锐 鋒锋 鋼钢 錄录 錢钱 銭钱 錦锦 錫锡 鍋锅
鍾钟 鎖锁 鏡镜 鐘钟 鐵铁 鉄铁 鑄铸 長长 閃闪 閉闭 開开 閑闲 間间 閔闵 閘闸 閣阁 閩闽 闊阔 關关 関关 隊队 階阶 際际
隨随 險险 険险 隱隐 雙双 雜杂 雑杂 難难 雲云 電电 霧雾 靈灵 霊灵 靜静 頂顶 項项 順顺 須须 預预 領领 頭头 題题 額额
顏颜 類类 顧顾 風风 飛飞 飯饭 飲饮 飾饰 養养 餘余 館馆 駐驻 駕驾 駅驿 驛驿 騎骑 騰腾 驗验 験验 驚惊 體体 髮发 魚鱼
魯鲁 鮮鲜 鯉鲤 鯨鲸 鳥鸟 鳴鸣 鴨鸭 鷹鹰 麵面 黨党 齡龄 龔龚 崑昆 崙仑 峯峰 嵗岁 滎荥 漵溆 灤滦 濰潍 澠渑 瀾澜 灕漓
灃沣 滸浒 溈沩 潯浔 漊溇 嶧峄 崍崃 巋岿 嶄崭 鄲郸 酈郦 鄆郓 贈赠 賁贲 騫骞 驪骊 蕪芜 薊蓟 薔蔷 禪禅 稅税 窯窑 篠筱
糸丝 絲丝 縉缙 紹绍 緯纬 綏绥 縮缩 脈脉 膽胆 舖铺 鋪铺 藺蔺 蘄蕲 虜虏 蠶蚕 諒谅 讚赞 貽贻
""".split()  # fmt: skip
_TABLE = str.maketrans(_LETTERS | {pair[0]: pair[1] for pair in _HAN})
# Vowel points and cantillation of Hebrew, harakat and Quranic marks of Arabic, nukta of Indic
# scripts
_MARKS = re.compile(
    "[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    "\u093c\u09bc\u0a3c\u0abc\u0b3c\u0cbc]"
)

_SILENT = re.compile(
    r"[.'’‘`´ʹʺʻʼʽʾʿˈ′ꞌ\u0640\u200b-\u200f\u2060\ufeff]"
)  # vanish: St. -> st, Xi'an -> xian
_SPACES = re.compile(r"\s+")


@lru_cache(16_384)
def normalise(text: str) -> str:
    """Return the form in which two spellings of a name are equal: NFKC, casefold, no accents, no
    punctuation, single spaces.

    "São  Paulo" -> "sao paulo", "Xi’an" -> "xian", "Ｔｏｋｙｏ" -> "tokyo", "القَاهِرَة" -> "القاهره".
    """
    folded = _SILENT.sub("", fold(text))
    if not folded.replace(" ", "").isalnum():
        folded = "".join(
            c if c.isalnum() or c == "&" or unicodedata.category(c)[0] == "M" else " "
            for c in folded
        )
    return _SPACES.sub(" ", folded).strip()


def fold(text: str) -> str:
    """Return `text` without case, accents, vowel marks and variants of letters."""
    if text.isascii():
        return text.lower()
    folded = _without_accents(unicodedata.normalize("NFKC", text).casefold())
    # marks go first and last: أ is one character or two, ड़ always two
    return _MARKS.sub("", folded.translate(_TABLE))


def _without_accents(text: str) -> str:
    """Drop accents from Latin and Greek letters only: marks of other scripts (й, バ) change the
    letter. The marks that make no other letter go by `_MARKS`.
    """
    out = []
    base_foldable = False
    for char in unicodedata.normalize("NFD", text):
        if "\u0300" <= char <= "\u036f":
            if not base_foldable:
                out.append(char)
            continue
        base_foldable = char < "\u0400" or "\u1e00" <= char <= "\u1fff"
        out.append(char)
    return unicodedata.normalize("NFC", "".join(out))
